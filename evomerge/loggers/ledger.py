"""What a logger has sent, noted in the run folder: so nothing is sent twice, and a run outside is continued.

One file for each place, a line for each note, the first with the place and the run's id there. The last line may be
torn by a crash; it counts for nothing then.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import secrets
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from evomerge.errors import RunError
from evomerge.system.files import explain_os_errors

FOLDER = "loggers"
"""The folder in a run folder with what loggers have sent, and what their libraries say."""

END = "end "
"""What keys begin with that are no rows: of the ends of searches."""


def ledger_path(run: Path, name: str, place: str) -> Path:
    """Return the file of a logger's notes about one place."""
    mark = hashlib.sha256(place.encode("utf-8", "replace")).hexdigest()[:8]
    return run / FOLDER / f"{plain_name(name)}-{mark}.jsonl"


def plain_name(name: str) -> str:
    """Return the name of a logger as a part of a file's name."""
    return re.sub(r"\W+", "_", name).strip("_")[-60:] or "logger"


class SentNotes:
    """The notes about one place, held by one process at a time.

    Attributes:
        run: the run's id at the place.
        begun: whether the run was begun there before.
    """

    def __init__(self, path: Path, place: str, *, wait: float = 10.0, anew: bool = False) -> None:
        """Open or make the file.

        Args:
            path: the file.
            place: where the rows go.
            wait: seconds to wait for another process that holds it.
            anew: whether what was noted before counts for nothing, so that all is sent to another run.

        Raises:
            RunError: if another process holds it, or it cannot be written.
        """
        with explain_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("a+b")
        try:
            self._lock(path, wait)
            with explain_os_errors(path):
                if anew:
                    self._file.truncate(0)
                notes = self._read()
                head = next((one for one in notes if "run" in one), None)
                self.begun = head is not None
                self.run = str(head["run"]) if head else secrets.token_hex(8)
                self._rows = {str(one["row"]) for one in notes if "row" in one}
                if head is None:
                    self._write([{"run": self.run, "place": place}])
        except BaseException:
            self._file.close()
            raise

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def add(self, keys: Iterable[str]) -> None:
        """Note that rows were sent."""
        new = [key for key in keys if key not in self._rows]
        self._write([{"row": key} for key in new])
        self._rows.update(new)

    def correct(self, rows: Collection[str]) -> None:
        """Go by the rows that the place itself holds, whatever was noted."""
        self._rows = {*rows, *(key for key in self._rows if key.startswith(END))}

    def close(self) -> None:
        """Close the file; another process may open it then."""
        self._file.close()

    def _lock(self, path: Path, wait: float) -> None:
        end = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise RunError(
                        f"another process is sending this run to the same place (it holds {path}); wait for it to end"
                    ) from None
                time.sleep(0.1)
            except OSError:  # a file system without locks: one process is the rule
                return
            else:
                return

    def _read(self) -> list[dict[str, Any]]:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # a torn line
            self._file.truncate(whole)
        return list(_notes(content[:whole]))

    def _write(self, notes: list[dict[str, Any]]) -> None:
        self._file.write(b"".join(json.dumps(note).encode() + b"\n" for note in notes))
        self._file.flush()


def rows_sent(run: Path, name: str) -> set[str]:
    """Return the keys of the rows that a logger has sent, to every place where it sent any."""
    found: list[set[str]] = []
    for path in sorted((run / FOLDER).glob(f"{plain_name(name)}-????????.jsonl")):
        with explain_os_errors(path):
            content = path.read_bytes()
        found.append({str(one["row"]) for one in _notes(content[: content.rfind(b"\n") + 1]) if "row" in one})
    return set.intersection(*found) if found else set()


def _notes(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.splitlines():
        try:
            one = json.loads(line)
        except ValueError:  # damaged: what it said is sent again
            continue
        if isinstance(one, dict):
            yield one
