"""The display of a search while it runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from evomerge.api import Record, Score, Split
from evomerge.cli.console import make_console, named
from evomerge.cli.tables import percent
from evomerge.system.advance import Advance, NowAndThen
from evomerge.system.text import ERROR_LENGTH, visible

_GONE = (OSError, ValueError)
"""Errors of an output whose reader is gone, or that was closed; neither ends a search."""

BARS = "▁▂▃▄▅▆▇█"
PLAIN_SECONDS = 10.0
"""How often, at least, a line is printed without a terminal, in seconds; improvements are always printed."""


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


class Display:
    """Shows a search while it runs; give it to `evomerge.api.search` as the listener.

    Args:
        console: where to write: a live view if it is a terminal, else plain lines.

    Attributes:
        worst: whether scores are those of the worst task relative to its best parent.
    """

    worst = False

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
        self._advance: str | None = None
        self._now_and_then = NowAndThen()

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
        passing = isinstance(text, Advance)
        self._advance = text if passing and self._live is not None else None
        if passing and (self._live is not None or not self._now_and_then.due()):
            self._refresh()
            return
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
            what = visible(record.error, most=ERROR_LENGTH) if record.error else self._percent(score)
            best = f"   best {self._percent(self._search_score(self._best))}" if searching and self._best else ""
            judged = split != Split.TEST and not record.is_baseline and not record.error
            broken = judged and record.result is not None and record.result.violation > 0.0
            limit = " breaks a limit" if broken else ""
            self.note(f"  {visible(record.name):<16} {split:<10} {what}{limit}{best}")
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

    def _percent(self, score: Score | None) -> str:
        return percent(score, worst=self.worst)

    @staticmethod
    def _search_score(record: Record | None) -> Score | None:
        return None if record is None else (record.scores or {}).get(Split.SEARCH)

    def _view(self) -> Group:
        rows: list[Any] = [] if self._advance is None else [named(self._advance)]
        if self._baselines:
            scores = ", ".join(
                f"{name} {self._percent(score).split('[')[0].strip()}" for name, score in self._baselines
            )
            rows.append(named(f"on the search items: {scores}", "dim"))
        if self._best is not None:
            rows.append(
                Text.assemble(
                    (self._course.bars(), "cyan"),
                    f"  best so far {self._percent(self._search_score(self._best))} ({visible(self._best.name)})",
                )
            )
        rows.append(self._progress)
        return Group(*rows)
