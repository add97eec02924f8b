"""The display of a search: a live view on a terminal, plain lines elsewhere, and the closing table."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from evomerge.api import Record, Score, Split
from evomerge.cli.console import make_console, named
from evomerge.system.figures import gain, p_text, percentage
from evomerge.system.text import ERROR_LENGTH, visible

_GONE = (OSError, ValueError)
"""Errors of an output whose reader is gone, or that was closed; neither ends a search."""

BARS = "▁▂▃▄▅▆▇█"
PLAIN_SECONDS = 10.0
"""How often, at least, a line is printed without a terminal, in seconds; improvements are always printed."""


def percent(score: Mapping[str, Any] | Score | None) -> str:
    """Return a score as "51.2 % [46.1, 56.3]", a dash without a score; numbers beyond ±1 (tokens) as they are."""
    if score is None:
        return "–"
    data = score.to_data() if isinstance(score, Score) else score
    if not -1.0 <= data["mean"] <= 1.0:
        return plain(data)
    return f"{percentage(data['mean']):>5} % [{percentage(data['low'])}, {percentage(data['high'])}]"


def plain(data: Mapping[str, Any]) -> str:
    """Return a score as "10.60 [10.16, 11.04]", for a count or a number with a unit."""
    return f"{data['mean']:7.4g} [{data['low']:.4g}, {data['high']:.4g}]"


class Course:
    """The course of a search as the best of equal stretches, between `most / 2` and `most` of them once it is long.

    So a picture of it costs the same however long the search is.
    """

    def __init__(self, most: int = 60) -> None:
        self._most, self._each, self._in_last = most, 1, 0
        self._best: list[float] = []

    def add(self, value: float) -> None:
        """Add the next value."""
        if not self._best or self._in_last == self._each:
            if len(self._best) == self._most:
                self._best = [max(self._best[i : i + 2]) for i in range(0, self._most, 2)]
                self._each *= 2
            self._best.append(value)
            self._in_last = 0
        self._best[-1] = max(self._best[-1], value)
        self._in_last += 1

    def bars(self) -> str:
        """Return values in [0, 1] as a row of bars."""
        top, last = max([*self._best, 1e-9]), len(BARS) - 1
        return "".join(BARS[min(int(max(value, 0.0) / top * last + 0.5), last)] for value in self._best)


def result_table(status: Mapping[str, Any]) -> Table:
    """Lay out parents, average and best merge, with the scores of each on validation and test items.

    While some have none of these yet, because the search goes on or was stopped, with those on the search items too.
    """
    best = status.get("best")
    rows = [*status["baselines"], *([] if best is None else [best])]
    splits = ["validation", "test"]
    if not all(any(row[split] for split in splits) for row in rows):
        splits.insert(0, "search")
    n = next((s["n"] for s in ((best or {}).get("test"), *(b["test"] for b in status["baselines"])) if s), None)
    table = Table(title=named(f"{status['name']}: score and 95 % interval" + (f", {n} test items" if n else "")))
    table.add_column("model")
    for split in splits:
        table.add_column(split, justify="right")
    for row in status["baselines"]:
        table.add_row(named(row["name"]), *(percent(row[split]) for split in splits))
    if best is not None:
        name = named(f"best merge ({best['name']})", "bold green")
        table.add_row(name, *(percent(best[split]) for split in splits), end_section=True)
    return table


def result_tables(status: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the tables of what a search found: the scores and, with several objectives, the choice."""
    if status["baselines"] or status.get("best") is not None:
        yield result_table(status)
    if status.get("choice") is not None and len(status["objectives"]) > 1:
        yield choice_table(status)


def choice_table(status: Mapping[str, Any]) -> Table:
    """Lay out what was chosen beside the baselines, objective by objective."""
    choice, objectives = status["choice"], status["objectives"]
    split = (
        "test" if any(one["test"] for row in choice["records"] for one in row["objectives"].values()) else "validation"
    )
    n = len(choice["records"])
    front = f"front of {n} merge{'s' * (n != 1)}: none is better in every objective"
    what = front if choice["kind"] == "front" else choice["kind"]
    table = Table(title=f"{what}; {split} score and 95 % interval")
    table.add_column("model")
    for one in objectives:
        head = one["name"] + (" (less is better)" if one["direction"] == "minimize" else "")
        table.add_column(named(head), justify="right")
    for row in status["baselines"]:
        table.add_row(named(row["name"]), *(percent(row["objectives"][one["name"]][split]) for one in objectives))
    table.add_section()
    for row in choice["records"]:
        scores = (percent(row["objectives"][one["name"]][split]) for one in objectives)
        table.add_row(named(row["name"], "bold green"), *scores)
    return table


def worker_table(status: Mapping[str, Any]) -> Table:
    """Lay out what each worker was doing when the run was last written."""
    workers = status["workers"]
    ago = max(0.0, time.time() - workers["at"])
    busy = "" if workers["utilisation"] is None else f", busy {100 * workers['utilisation']:.0f} % of the time"
    shared = f", candidates shared {workers['shared']} times" if workers.get("shared") else ""
    table = Table(
        title=f"{len(workers['workers'])} workers {ago:.0f} s ago{busy}; {workers['lost']} replaced or lost{shared}"
    )
    for name in ("worker", "node", "device", "state", "candidate", "done"):
        table.add_column(name, justify="right" if name in ("worker", "candidate", "done") else "left")
    for one in workers["workers"]:
        row = (one["id"], one["node"], one["device"], one["state"], one["candidate"], one["done"])
        table.add_row(*("–" if value is None else str(value) for value in row))
    return table


def verdict_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines that say what the winner's scores are worth: the gain on the same items, the score without luck."""
    compared = status.get("comparisons", ())
    if compared:
        yield f"gain on the same {compared[0]['n']} test items (paired, 95 % interval):"
    for one in compared:
        name = one["against"] + (", the best parent" if one["against"] == status["best_parent"] else "")
        yield f"  {gain(one)} over {name}, {p_text(one['p_value'])} (two-sided)"
    over = status.get("passed_over")
    if over:
        yield (
            f"the consensus was chosen over {over['name']} ({percent(over['validation']).strip()} on the validation "
            "items), which is ahead of it by no more than a standard error"
        )
    adjusted = (status.get("best") or {}).get("adjusted")
    if adjusted:
        yield (
            f"validation score without the luck of the best of {len(status['finalists']) + 1}: "
            f"{percent(adjusted).strip()}"
        )


class Display:
    """Shows a search while it runs; give it to `evomerge.api.search` as the listener.

    Args:
        console: where to write: a live view if it is a terminal, else plain lines.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or make_console()
        self._course = Course()
        self._best: Record | None = None
        self._phase = ""
        self._last_line = time.monotonic()
        self._left_out = 0
        self._baselines: list[tuple[str, Score | None]] = []
        self._progress = Progress(
            TextColumn("{task.description:<10}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self._task: TaskID | None = None
        self._live: Live | None = None

    def __enter__(self) -> Display:
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(self._view(), console=self.console, refresh_per_second=4)
            with contextlib.suppress(*_GONE):
                self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._tell_left_out()
        if self._live is not None:
            with contextlib.suppress(*_GONE):
                self._live.update(self._view())
            with contextlib.suppress(*_GONE):
                self._live.__exit__(None, None, None)
            self._live = None

    def take_up(self, records: Iterable[Record]) -> None:
        """Know what earlier sessions scored: baselines, and the best candidate so far.

        Args:
            records: those of the run, baselines first.
        """
        for record in records:
            self._count(record, Split.SEARCH, (record.scores or {}).get(Split.SEARCH))

    def note(self, text: str) -> None:
        """Print a line, for example what is being loaded; lost where nobody reads the output any more."""
        with contextlib.suppress(*_GONE):
            self.console.print(text, highlight=False)

    def phase(self, name: str, total: int | None, done: int) -> None:
        """Show that a phase of the search begins."""
        self._tell_left_out()
        self._phase = name
        self._task = self._progress.add_task(visible(name), total=total, completed=done)
        if total is not None and done > total:
            self.note(f"{name}: the run has {done} candidates already; nothing more to search with a budget of {total}")
        elif self._live is None:
            size = f" {total} candidates" if total is not None else ""
            self.note(f"{name}:{size}" + (f" ({done} done before)" if done else ""))
        self._refresh()

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        """Show that a candidate was scored."""
        if self._task is not None and not (self._phase == "baselines" and split != Split.SEARCH):
            self._progress.advance(self._task)
        improved = self._count(record, split, score)
        if self._live is None:
            self._line(record, split, score, improved)
        self._refresh()

    def _count(self, record: Record, split: Split, score: Score | None) -> bool:
        """Take note of a score on the search items; return whether it is the best of a candidate so far."""
        if split != Split.SEARCH:
            return False
        if record.is_baseline:
            self._baselines.append((record.name, score))
        elif record.fitness is not None:
            self._course.add(record.fitness)
            if self._best is None or record.fitness > (self._best.fitness or 0.0):
                self._best = record
                return True
        return False

    def _line(self, record: Record, split: Split, score: Score | None, improved: bool) -> None:
        due = time.monotonic() - self._last_line > PLAIN_SECONDS
        searching = split == Split.SEARCH and not record.is_baseline
        if not searching or improved or due or record.error or record.is_consensus:
            what = visible(record.error, most=ERROR_LENGTH) if record.error else percent(score)
            best = f"   best {percent(self._search_score(self._best))}" if searching and self._best else ""
            self.note(f"  {visible(record.name):<16} {split:<10} {what}{best}")
            self._last_line = time.monotonic()
        else:
            self._left_out += 1

    def _tell_left_out(self) -> None:
        """Say how many candidates had no line of their own since the phase began."""
        if self._left_out:
            self.note(f"  ({self._left_out} more in run.log)")
        self._left_out = 0

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._view())

    @staticmethod
    def _search_score(record: Record | None) -> Score | None:
        return None if record is None else (record.scores or {}).get(Split.SEARCH)

    def _view(self) -> Group:
        rows: list[Any] = []
        if self._baselines:
            scores = ", ".join(f"{name} {percent(score).split('[')[0].strip()}" for name, score in self._baselines)
            rows.append(named(f"on the search items: {scores}", "dim"))
        if self._best is not None:
            rows.append(
                Text.assemble(
                    (self._course.bars(), "cyan"),
                    f"  best so far {percent(self._search_score(self._best))} ({visible(self._best.name)})",
                )
            )
        rows.append(self._progress)
        return Group(*rows)
