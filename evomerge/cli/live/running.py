"""All running searches of a folder, a line each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from evomerge import api
from evomerge.api import Moment, Watch
from evomerge.cli.live.lines import moment_line
from evomerge.cli.live.marks import Marks
from evomerge.cli.live.numbers import gain_text, left_text, score_text
from evomerge.cli.live.rows import columns, cut, fitted
from evomerge.errors import EvomergeError
from evomerge.system.text import error_text, visible

AGAIN = 5.0
"""After so many seconds the folder is looked through again for new runs."""


class RunningRuns:
    """The runs of a folder: those that run, read again and again, and how the others ended.

    Args:
        folder: the folder.

    Attributes:
        running: what those that run have come to, by their folders.
        ended: how many of the others are in which state.
        broken: why a run cannot be read, by its folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[Path, Moment] = {}
        self.broken: dict[Path, str] = {}
        self._watches: dict[Path, Watch] = {}
        self._states: dict[Path, tuple[float, str]] = {}  # of runs that ended: when they were written last
        self._paths: list[Path] = []
        self._next = 0.0

    @property
    def ended(self) -> Counter[str]:
        """How many runs that do not run are in which state."""
        return Counter(state for _, state in self._states.values())

    def look(self) -> None:
        """Look at every run; those that ended are opened again only when they were written since."""
        if time.monotonic() >= self._next:
            self._paths, self._next = api.runs_in(self.folder), time.monotonic() + AGAIN
        self.broken = {}
        running = {}
        for path in self._paths:
            moment = self._moment(path)
            if moment is not None:
                running[path] = moment
        self.running = running

    def close(self) -> None:
        """Let go of all runs."""
        for one in self._watches.values():
            one.close()
        self._watches.clear()

    def _moment(self, path: Path) -> Moment | None:
        try:
            written = (path / "run.sqlite").stat().st_mtime
            lock = path / "run.lock"
            written = max(written, lock.stat().st_mtime if lock.exists() else 0.0)
            if path in self._states and self._states[path][0] == written:
                return None
            if path not in self._watches:
                self._watches[path] = api.watch(path)
            moment = self._watches[path].look()
        except (OSError, EvomergeError) as error:
            self._drop(path)
            self._states.pop(path, None)
            if isinstance(error, EvomergeError) and path.exists():
                self.broken[path] = error_text(error)
            return None
        if not moment.ended:
            self._states.pop(path, None)
            return moment
        self._drop(path)
        self._states[path] = written, moment.state
        return None

    def _drop(self, path: Path) -> None:
        if (one := self._watches.pop(path, None)) is not None:
            one.close()


def running_picture(runs: RunningRuns, width: int, height: int, marks: Marks) -> list[Text]:
    """Return a table of the running searches on at most so many lines, and how the others ended."""
    lines = [fitted(Text(f"{len(runs.running)} running in {visible(runs.folder)}", "bold"), width, marks)]
    shown = list(runs.running.items())
    room = max(height - 4 - min(len(runs.broken), 3), 1)
    folded = max(len(shown) - room, 0)
    rows = [_row(path, runs.folder, moment, marks) for path, moment in shown[: len(shown) - folded]]
    if rows:
        lines += columns(["run", "done", "best", "gain over best parent", "left"], rows, width, marks)
    if folded:
        lines.append(Text(f"{marks.more} {folded} more", "dim"))
    for path, why in list(runs.broken.items())[:3]:
        lines.append(fitted(Text(f"{visible(_short(path, runs.folder))}: {visible(why)}", "red"), width, marks))
    lines.append(fitted(Text(_others(runs), "dim"), width, marks))
    return lines[:height]


def running_lines(runs: RunningRuns) -> Iterator[str]:
    """Yield a line for each running search, for an output that is no terminal."""
    now = time.strftime("%H:%M:%S")
    for path, moment in runs.running.items():
        yield f"{now} {visible(path)}: {moment_line(moment)}"
    for path, why in runs.broken.items():
        yield f"{now} {visible(path)}: {visible(why, most=200)}"
    if not runs.running:
        yield f"no search runs in {visible(runs.folder)}" + (f"; {_others(runs)}" if runs.ended else "")


def _row(path: Path, folder: Path, moment: Moment, marks: Marks) -> list[Text]:
    part = moment.part
    done = marks.none
    if part is not None:
        name = "" if part.name == "search" else f"{part.name} "
        done = f"{name}{part.done}" + ("" if part.total is None else f"/{part.total}")
    parent = moment.over("best parent")
    gain = None if parent is None else gain_text(parent)
    left = "" if moment.seconds_left is None else left_text(moment.seconds_left, moment.at)
    return [
        Text(cut(visible(_short(path, folder)), 40, marks)),
        Text(done),
        Text(score_text(moment.score, worst=moment.worst, none=marks.none)),
        Text((gain or marks.none).replace(" points", "")),
        Text(left.removesuffix(" left").partition(" left,")[0] or marks.none),
    ]


def _short(path: Path, folder: Path) -> str:
    try:
        return str(path.relative_to(folder))
    except ValueError:
        return str(path)


def _others(runs: RunningRuns) -> str:
    ended = ", ".join(f"{n} {state}" for state, n in sorted(runs.ended.items()))
    return f"not running: {ended or 'none'}"
