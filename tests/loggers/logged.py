"""Runs that were sent to the fake logger, and what it wrote."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge import api

Sent = Callable[..., dict[str, int]]

FAKE = f"{Path(__file__).with_name('fake_logger.py')}:FakeLogger"


def fake(file: Path, mood: str | None = None) -> dict[str, Any]:
    """Return the entry of a configuration."""
    return {"name": FAKE, "file": str(file), **({} if mood is None else {"mood": mood})}


def told(file: Path, what: str) -> list[Mapping[str, Any]]:
    """Return what one method was called with, call by call."""
    if not file.exists():
        return []
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line[what] for line in lines if what in line]


def keys(file: Path) -> list[str]:
    """Return the keys of the rows, in order."""
    return [f"{row['split']} {row['number']}" for row in told(file, "row")]


def sender(file: Path) -> Sent:
    """Return what sends a run to the fake logger, which writes this file, and returns what came of it."""

    def do(run: Path, mood: str | None = None, **more: Any) -> dict[str, int]:
        return api.log_run(run, FAKE, {"file": str(file), "mood": mood}, **more)

    return do


@dataclass(frozen=True)
class SentRun:
    """A run that was sent once: its folder, what the logger wrote, and what came of sending it."""

    run: Path
    file: Path
    done: dict[str, int]
