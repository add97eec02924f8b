"""Watches a run from elsewhere: its moments, its log, and whether it is still there."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from evomerge.analysis.moment import Moment
from evomerge.errors import RunError
from evomerge.store.run_dir import DATABASE, LOG, RunDir
from evomerge.system.files import user_path
from evomerge.workflows.moments import MomentReader

KEPT = 20
"""So many notes are kept."""

_LINE = re.compile(r"^\S+ \S+ (?P<level>[A-Z]+) \S+: (?P<text>.*)$")
_SAID = "plan: "
_FIRST_BYTES = 65536


class Watch:
    """One run, watched. Made anew where the folder was replaced by another run's; belongs to the thread that uses it.

    Args:
        path: the run's folder.

    Raises:
        RunError: if it is no run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path)
        self._run: RunDir | None = None
        self._log_at: int | None = None
        self._notes: deque[str] = deque(maxlen=KEPT)
        self._open()

    def look(self) -> Moment:
        """Return what the run has come to now.

        Raises:
            RunError: if it is gone, or cannot be read now.
        """
        if self._run is None or _identity(self.path) != self._identity:
            self.close()
            if not (self.path / DATABASE).exists():
                raise RunError(f"the run {self.path} is gone: its folder or database was removed")
            self._open()
        try:
            return self._moments.look()
        except RunError:
            self.close()  # the next look opens it anew: its writer was killed, perhaps, in the middle of a transaction
            raise

    def notes(self) -> list[str]:
        """Return the last warnings and plans in the run's log, the oldest first."""
        self._notes.extend(self._new_lines())
        return list(self._notes)

    def close(self) -> None:
        """Close the run; may be called twice."""
        if self._run is not None:
            self._run.close()
            self._run = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        self._run = RunDir.open(self.path, mend=False)
        self._identity = _identity(self.path)
        self._moments = MomentReader(self._run)

    def _new_lines(self) -> Iterator[str]:
        try:
            if not (self.path / LOG).is_file():  # a pipe, say, which would wait for somebody
                return
            with (self.path / LOG).open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                if self._log_at is None or self._log_at > end:
                    self._log_at = max(0, end - _FIRST_BYTES)
                file.seek(self._log_at)
                lines, newline, _ = file.read(end - self._log_at).rpartition(b"\n")
                self._log_at += len(lines) + len(newline)
        except OSError:
            return
        for line in lines.decode("utf-8", "replace").splitlines():
            found = _LINE.match(line)
            if found is None:
                continue
            if found["level"] in ("WARNING", "ERROR", "CRITICAL"):
                yield f"warning: {found['text']}"
            elif found["text"].startswith(_SAID):
                yield found["text"]


def runs_in(folder: str | Path, *, depth: int = 4) -> Iterator[Path]:
    """Yield the runs in a folder and the folders below it, by name; links are not followed.

    Args:
        folder: where to look.
        depth: how many folders deep.

    Raises:
        RunError: if there is no such folder.
    """
    top = user_path(folder)
    if not top.is_dir():
        raise RunError(f"there is no folder {top}")
    for path, folders, files in os.walk(top):
        here = Path(path)
        if DATABASE in files:
            folders.clear()
            yield here
        elif len(here.relative_to(top).parts) >= depth:
            folders.clear()
        folders.sort()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = (path / DATABASE).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
