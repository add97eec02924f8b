"""Runs for loggers."""

from pathlib import Path

import pytest
from logged import Sent, SentRun, sender
from made_runs import made_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_run(tmp_path / "runs" / "a run")


@pytest.fixture
def send(tmp_path: Path) -> Sent:
    return sender(tmp_path / "told.jsonl")


@pytest.fixture(scope="module")
def sent_run(tmp_path_factory: pytest.TempPathFactory) -> SentRun:
    folder = tmp_path_factory.mktemp("sent")
    run, file = made_run(folder / "runs" / "a run", answers=True), folder / "told.jsonl"
    return SentRun(run, file, sender(file)(run))
