"""The lines of the list: which are shown, in which order, and in which words."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from evomerge.dashboard.run_list import NOT_BEGUN, STARTING, ListedRun
from evomerge.report.groups import tags_of
from evomerge.system.text import cut, duration

ROWS_AT_MOST = 1_000
"""So many lines are shown; the filter finds the others."""

_WHY = 400
"""So many characters of an error are shown."""


@dataclass(frozen=True)
class RunRow:
    """A line in words.

    Attributes:
        run: the run.
        tags: what it has and others of its name have not: key and value.
    """

    run: ListedRun
    tags: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """Its name in addresses."""
        return self.run.found.key

    @property
    def name(self) -> str:
        """The name of its configuration; that of its folder where it cannot be read."""
        return self.run.found.place if self.run.overview is None else self.run.overview.name

    @property
    def score(self) -> str:
        """The best score with its interval."""
        one = self.run.overview
        return "" if one is None or one.best is None else one.style.score(one.best)

    @property
    def parent(self) -> str:
        """The best parent's score on the same items, and its name."""
        one = self.run.overview
        if one is None or one.parent is None:
            return ""
        return f"{one.parent_name} {one.style.mean(one.parent.mean)}"

    @property
    def gain(self) -> str:
        """How far the best merge is ahead of the best parent."""
        one = self.run.overview
        return "" if one is None or one.gain is None or math.isnan(one.gain) else one.style.change(one.gain)

    @property
    def candidates(self) -> str:
        """Candidates of the budget, or what else it limits."""
        one = self.run.overview
        if one is None:
            return ""
        most = one.budget.get("candidates")
        failed = f", {one.failed:,} failed" if one.failed else ""
        return f"{one.candidates:,}" + (f" of {most:,}" if isinstance(most, int) else "") + failed

    @property
    def limits(self) -> str:
        """What of its other budgets was spent: items and time."""
        one = self.run.overview
        if one is None:
            return ""
        found = []
        if isinstance(one.budget.get("items"), int):
            found.append(f"{int(one.spent.get('items', 0)):,} of {one.budget['items']:,} items")
        if isinstance(one.budget.get("seconds"), (int, float)):
            found.append(f"{duration(one.spent.get('seconds', 0.0))} of {duration(one.budget['seconds'])}")
        return "; ".join(found)

    @property
    def when(self) -> str:
        """When its file was last written, as one says it."""
        return ago(time.time() - self.run.written) if self.run.written else ""

    @property
    def written(self) -> str:
        """When its file was last written, exactly."""
        if not self.run.written:
            return ""
        return datetime.fromtimestamp(self.run.written).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")

    @property
    def error(self) -> str:
        """The beginning of what ended a search that failed."""
        one = self.run.overview
        return "" if one is None or not one.error else cut(str(one.error), _WHY)

    @property
    def why(self) -> str:
        """Why there is nothing to show of it."""
        if self.run.state == STARTING:
            return "The search opens its models; nothing has been recorded yet."
        if self.run.state == NOT_BEGUN:
            return "A search was begun here, and ended before it recorded anything."
        return cut(self.run.problem or "", _WHY)

    @property
    def words(self) -> str:
        """All that the filter looks into."""
        one = self.run.overview
        tasks = () if one is None else one.tasks
        tags = (f"{key}={value}" for key, value in self.tags)
        return " ".join((self.name, self.run.found.place, self.run.state, *tasks, *tags)).casefold()


@dataclass(frozen=True)
class Wish:
    """Which lines are asked for.

    Attributes:
        text: words that a line must hold, all of them.
        state, task: empty: any.
        sort: a key of `SORTED`.
        down: whether the largest comes first.
    """

    text: str = ""
    state: str = ""
    task: str = ""
    sort: str = "when"
    down: bool = True

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Wish:
        """Return what an address asks for; what it says wrongly is left out."""
        sort = query.get("sort", "when")
        sort = sort if sort in SORTED else "when"
        order = query.get("order", "")
        down = order == "down" if order in ("up", "down") else sort not in ("name", "state")
        return cls(query.get("q", "")[:200], query.get("state", ""), query.get("task", ""), sort, down)


SORTED: Mapping[str, Callable[[RunRow], Any]] = {
    "name": lambda row: (row.name.casefold(), row.run.found.place),
    "state": lambda row: row.run.state,
    "score": lambda row: _or_none(row.run.overview and row.run.overview.best and row.run.overview.best.mean),
    "gain": lambda row: _or_none(row.run.overview and row.run.overview.gain),
    "candidates": lambda row: _or_none(row.run.overview and row.run.overview.candidates),
    "when": lambda row: row.run.written,
}
"""By what lines are put in order."""


def rows_of(runs: Iterable[ListedRun]) -> list[RunRow]:
    """Return all lines."""
    runs = list(runs)
    readable = [run for run in runs if run.overview is not None]
    tags = dict(
        zip(
            (run.found.key for run in readable),
            tags_of([run.overview.config for run in readable if run.overview is not None]),
            strict=True,
        )
    )
    return [RunRow(run, tuple(tags.get(run.found.key, {}).items())) for run in runs]


def chosen(rows: Sequence[RunRow], wish: Wish) -> list[RunRow]:
    """Return the lines that are asked for, in order; those without a value come last."""
    words = wish.text.casefold().split()
    found = [
        row
        for row in rows
        if (not wish.state or row.run.state == wish.state)
        and (not wish.task or (row.run.overview is not None and wish.task in row.run.overview.tasks))
        and (not words or _holds(row.words, words))
    ]
    valued = [(SORTED[wish.sort](row), row) for row in found]
    known = sorted((one for one in valued if one[0] is not None), key=lambda one: one[0], reverse=wish.down)
    return [row for _, row in known] + [row for value, row in valued if value is None]


def _holds(text: str, words: Sequence[str]) -> bool:
    return all(word in text for word in words)


def ago(seconds: float) -> str:
    """Return "3 min ago"."""
    if seconds < 5.0:
        return "just now"
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _or_none(value: Any) -> float | None:
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else float(value)
