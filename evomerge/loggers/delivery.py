"""Brings rows to the process of a logger; it never holds up who gives them, whatever the logger does."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import evomerge.loggers.child as child
from evomerge.loggers.ledger import FOLDER, plain_name
from evomerge.loggers.row import LogRow, RunFacts, Summary
from evomerge.system.files import explain_os_errors

MOST_QUEUED = 10_000
"""Rows that wait for a logger at most, a few MB; what comes beyond is sent from the run folder later."""


PATIENCE, LEFT_ALONE, TURN = 60.0, 70.0, 90.0
"""Seconds for which a search waits for a logger at its end, after which the process ends by itself where the search is
gone, and for which the next session's process waits for that."""

STEP, LAST = 0.05, 2.0
"""Seconds between looks at a process that is waited for, and that one may take to be gone once it was killed."""


class Delivery:
    """The way to one logger.

    Attributes:
        name: of the logger.
        options: its own.
        lost: how many rows were given and are not sent: by now, or for good where `problem` is set.
        problem: why the logger was left out; None: it was not.
        sent: how many rows this process sent.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        facts: RunFacts,
        folder: Path,
        tell: Callable[[str], None],
        *,
        doubt: Callable[[str], None] = lambda _: None,
        anew: bool = False,
        most: int = MOST_QUEUED,
        patience: float = LEFT_ALONE,
        turn: float = TURN,
    ) -> None:
        """Start the process; nothing waits for it.

        Args:
            name: of the logger.
            options: its own.
            facts: what is known of the run.
            folder: the run folder.
            tell: called, in a thread, with where the run is to be seen.
            doubt: called, in a thread, with why the logger is left out.
            anew: whether all is sent again, to another run outside.
            most: see `MOST_QUEUED`.
            patience: seconds that the process may take when no more rows can come, whether or not anybody waits.
            turn: seconds that it may wait for another process which sends the same run to the same place.

        Raises:
            RunError: if its log cannot be written, so that nothing can be noted either.
        """
        self.name, self.options, self.problem, self.sent = name, dict(options), None, 0
        self._given = self._known = 0
        self._tell, self._doubt, self._ended = tell, doubt, False
        self._queue: queue.Queue[str | None] = queue.Queue(most)
        self._log = folder / FOLDER / f"{plain_name(name)}.log"
        with explain_os_errors(self._log):
            self._log.parent.mkdir(exist_ok=True)
            with self._log.open("ab") as said:
                self._process = _start(said)
        begin = {"facts": facts.to_data(), "logger": name, "options": self.options, "anew": anew, "turn": turn}
        self._put({"begin": {**begin, "patience": patience, "run": str(folder.absolute())}})
        self._writer, self._reader = (
            threading.Thread(target=work, name=f"evomerge logger {name}", daemon=True)
            for work in (self._write, self._read)
        )
        self._writer.start()
        self._reader.start()

    problem: str | None

    @property
    def lost(self) -> int:
        """How many of the rows that were given have not been sent."""
        return self._given - self._known - self.sent

    def send(self, row: LogRow) -> None:
        """Give a row; it waits, or is left to a later session where too many wait."""
        self._given += 1
        self._put({"row": row.to_data()})

    def finished(self, summary: Summary) -> None:
        """Give how the search ended."""
        self._put({"finished": summary.to_data()})

    def end(self) -> None:
        """Let the process end when it has sent what was given."""
        with contextlib.suppress(queue.Full):  # only where the process does not take anything
            self._queue.put_nowait(None)

    def wait(self, seconds: float, hurry: Callable[[], bool] = lambda: False) -> None:
        """Wait until the process has ended, or so long, or until `hurry` returns true; then it is ended."""
        end = time.monotonic() + seconds
        try:
            while self._reader.is_alive() and time.monotonic() < end and not hurry():
                self._reader.join(STEP)
        finally:  # Ctrl-C too
            if self._reader.is_alive():
                self._ended = True
                self._process.kill()
        self._reader.join(LAST)

    def _put(self, what: Mapping[str, Any]) -> None:
        if self.problem is None:
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(json.dumps(what))

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        with contextlib.suppress(OSError, ValueError):  # the process is gone, of which `_read` knows more
            while (line := self._queue.get()) is not None:
                pipe.write(line.encode("utf-8", "backslashreplace") + b"\n")
                pipe.flush()
        with contextlib.suppress(OSError, ValueError):
            pipe.close()

    def _read(self) -> None:
        pipe, closed = self._process.stdout, False
        assert pipe is not None
        for line in pipe:
            with contextlib.suppress(ValueError):
                closed = self._heard(json.loads(line)) or closed
        status = self._process.wait()
        if not closed and not self._ended:
            self._leave_out(f"its process ended with status {status}; {self._log} says what it printed")

    def _heard(self, said: Mapping[str, Any]) -> bool:
        """Take note of what the process says; return whether it is its last word."""
        self.sent += said.get("sent", 0)
        self._known += said.get("known", 0)
        if "ready" in said:
            self._tell(f"logger {self.name}: {said['ready']}")
        if "problem" in said:
            self._leave_out(str(said["problem"]))
        return "closed" in said or "problem" in said

    def _leave_out(self, why: str) -> None:
        if self.problem is None:
            self.problem = why
            self._doubt(f"the logger {self.name} is left out from now on, the search goes on: {why}")


def _start(said: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the process of a logger, which neither the terminal's signals nor its own folder's modules reach."""
    package = Path(child.__file__).parents[2]
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", child.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
        start_new_session=True,
    )
