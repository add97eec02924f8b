"""Runs for loggers."""

from collections.abc import Callable, Sequence
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


@pytest.fixture
def send(tmp_path: Path) -> Sent:
    """Sends a run to the fake logger, whose file is `told.jsonl`, and returns what came of it."""

    def do(run: Path, mood: str | None = None, said: list[str] | None = None, **more: Any) -> dict[str, int]:
        notes: Sequence[str] = []
        note = notes.append if said is None else said.append  # type: ignore[attr-defined]
        return api.log_run(run, FAKE, {"file": str(tmp_path / "told.jsonl"), "mood": mood}, note=note, **more)

    return do
