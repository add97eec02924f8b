"""Runs for loggers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from logged import FAKE
from made_runs import made_run

from evomerge import api

Sent = Callable[..., dict[str, int]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_run(tmp_path / "runs" / "a run")


def sender(file: Path) -> Sent:
    """Return what sends a run to the fake logger, which writes this file, and returns what came of it."""

    def do(run: Path, mood: str | None = None, **more: Any) -> dict[str, int]:
        return api.log_run(run, FAKE, {"file": str(file), "mood": mood}, **more)

    return do


@pytest.fixture
def send(tmp_path: Path) -> Sent:
    return sender(tmp_path / "told.jsonl")


@dataclass(frozen=True)
class SentRun:
    """A run that was sent once: its folder, what the logger wrote, and what came of sending it."""

    run: Path
    file: Path
    done: dict[str, int]


@pytest.fixture(scope="module")
def sent_run(tmp_path_factory: pytest.TempPathFactory) -> SentRun:
    folder = tmp_path_factory.mktemp("sent")
    run, file = made_run(folder / "runs" / "a run", answers=True), folder / "told.jsonl"
    return SentRun(run, file, sender(file)(run))
