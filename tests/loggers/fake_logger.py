"""A logger that writes what it is told to a file, and does what the words in its options say."""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge.loggers.base import Begun, Logger
from evomerge.loggers.row import LogRow, RunFacts, Summary


class FakeLogger(Logger):
    """Writes each call as a line.

    Args:
        file: the file.
        mood: what it does besides.
    """

    def __init__(self, *, file: str, mood: str | None = None) -> None:
        self._file, self._mood = Path(file), mood or ""
        self._rows = 0
        if "unmade" in self._mood:
            raise RuntimeError("it does not want to be made")

    @property
    def place(self) -> str:
        return str(self._file)

    def begin(self, facts: RunFacts, run: str, *, again: bool) -> Begun:
        self._note("begin", {"run": run, "again": again, "pid": os.getpid(), **facts.to_data()})
        if "no begin" in self._mood:
            raise ConnectionError("the network is gone")
        if "noisy" in self._mood:
            print("SHOUTING", flush=True)
            print("SHOUTING", file=sys.stderr, flush=True)
            random.seed(1)  # as libraries do
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if "hangs" in self._mood:
            time.sleep(600)
        return Begun(f"see {self._file}", self._held() if "knows" in self._mood else None)

    def candidate(self, row: LogRow) -> None:
        self._rows += 1
        if "slow" in self._mood:
            time.sleep(0.2)
        if "shaky" in self._mood and self._rows % 3 == 1:
            raise ConnectionError("once in a while")
        if "breaks" in self._mood and self._rows > 2:
            raise OSError(28, "No space left on device")
        if "dies" in self._mood and self._rows > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        self._note("row", row.to_data())

    def flush(self) -> None:
        self._note("flush", None)

    def finished(self, summary: Summary) -> None:
        self._note("finished", summary.to_data())

    def close(self) -> None:
        self._note("close", None)

    def _note(self, what: str, value: Mapping[str, Any] | None) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps({what: value}) + "\n")

    def _held(self) -> list[str]:
        lines = [json.loads(line) for line in self._file.read_text().splitlines()]
        return [LogRow.from_data(line["row"]).key for line in lines if "row" in line]


class NotALogger:
    """Has the wrong base."""
