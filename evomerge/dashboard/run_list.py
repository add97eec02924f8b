"""One line of each run of a folder, read again only where its file changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evomerge.dashboard.folder import FoundRun, check, find
from evomerge.errors import EvomergeError
from evomerge.report.overview import BUSY_SECONDS, Overview, overview_of
from evomerge.store.run_dir import CONFIG, DATABASE
from evomerge.store.status import RUNNING, is_written
from evomerge.store.untouched import settled_stamp
from evomerge.system.text import error_text

STARTING, NOT_BEGUN, UNREADABLE = "starting", "not begun", "unreadable"
"""States of what is no run that can be read: a search that opens its models, one that was stopped then, any damage."""

FRESH_SECONDS = 1.0
"""For so long what was found counts, however many ask."""

AGAIN_SECONDS, AGAIN_BUSY_SECONDS = 10.0, 0.2
"""After so long what could not be read is tried again, though its file is the same: who held it, or whom it was
hidden from, does not show in its file. Then its writer is waited for only shortly, so that the list does not stall."""


@dataclass(frozen=True)
class ListedRun:
    """One line.

    Attributes:
        found: where it is.
        overview: what it is; None: it cannot be read, or has not begun.
        problem: why it cannot be read.
        written: when its file was last written, in seconds since 1970.
        state: `STARTING`, `NOT_BEGUN` and `UNREADABLE` beside those of `evomerge.store.status`.
        tried: when that was found, on the clock `time.monotonic`.
    """

    found: FoundRun
    overview: Overview | None
    problem: str | None
    written: float
    state: str
    tried: float = field(default_factory=time.monotonic, compare=False)


class RunList:
    """The runs of one folder. Its methods wait for the disk, so the server calls them in a thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cut = False
        self._lock = threading.Lock()
        self._at = -FRESH_SECONDS
        self._runs: Mapping[str, ListedRun] = {}
        self._read: dict[str, tuple[object, ListedRun]] = {}  # with the stamp that it had

    def all(self) -> Mapping[str, ListedRun]:
        """Return the runs by key, in the order of their places."""
        with self._lock:
            if time.monotonic() - self._at >= FRESH_SECONDS:
                found = find(self.root)
                self._runs = {key: self._listed(run) for key, run in found.runs.items()}
                self._read = {key: self._read[key] for key in self._runs if key in self._read}
                self.cut = found.cut
                self._at = time.monotonic()
            return self._runs

    def get(self, key: str) -> ListedRun | None:
        """Return one run; None: there is none of that key, or it is gone."""
        run = self.all().get(key)
        return run if run is not None and run.found.path.is_dir() else None

    def _listed(self, run: FoundRun) -> ListedRun:
        if run.begun:
            state = STARTING if is_written(run.path) else NOT_BEGUN
            return ListedRun(run, None, None, _time(run.path / CONFIG), state)
        now = (run.problem, settled_stamp(run.path / DATABASE))
        known = self._read.get(run.key)
        if known is not None and known[0] == now and not _outdated(known[1]):
            return known[1]
        again = known is not None and known[1].state == UNREADABLE
        made = self._opened(run, _time(run.path / DATABASE), AGAIN_BUSY_SECONDS if again else BUSY_SECONDS)
        self._read[run.key] = (now, made)
        return made

    def _opened(self, run: FoundRun, written: float, busy_seconds: float) -> ListedRun:
        try:
            overview = overview_of(check(self.root, run), busy_seconds=busy_seconds)
        except EvomergeError as error:
            return ListedRun(run, None, error_text(error), written, UNREADABLE)
        except Exception as error:  # a database may hold anything; one run is not worth the list
            return ListedRun(run, None, error_text(error, name=True), written, UNREADABLE)
        return ListedRun(run, overview, None, written, overview.state)


def _outdated(run: ListedRun) -> bool:
    """Return whether a run may be another now than it was, though its file is the same."""
    if run.state == UNREADABLE:
        return time.monotonic() - run.tried >= AGAIN_SECONDS
    return run.state == RUNNING and not is_written(run.found.path)


def _time(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0
