"""Made-up runs (`tests/made_runs.py`), open for the figures of a report."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from altair.utils.schemapi import debug_mode
from made_runs import MadeRun, made_run

from evomerge.report.data import RunData

OpenMade = Callable[..., RunData]
"""Makes a run and opens it: `open_made(candidates=3, choice=None)`; `label` is what it is called beside others."""


@pytest.fixture(autouse=True)
def unchecked() -> Iterator[None]:
    """Keep altair from checking each piece of a chart, as reports do; `charts.check_chart` checks the whole."""
    with debug_mode(False):
        yield


@pytest.fixture
def open_made(tmp_path: Path) -> Iterator[OpenMade]:
    opened: list[RunData] = []

    def make(made: MadeRun | None = None, *, label: str | None = None, **changes: Any) -> RunData:
        path = made_run(tmp_path / f"run{len(opened)}", made, **changes)
        opened.append(RunData.open(path, label=label))
        return opened[-1]

    yield make
    for run in opened:
        run.close()


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "begun": {"candidates": 0, "baselines": False, "choice": None, "genes": False, "kinship": False},
    "baselines alone": {"candidates": 0, "choice": None},
    "one candidate": {"candidates": 1, "choice": None, "failed": (), "consensus": False},
    "all failed": {"candidates": 5, "failed": range(5), "choice": None, "twins": {}},
    "interrupted": {"choice": None},
    "no traces": {"traces": False, "course": False, "genes": False, "kinship": False},
    "hostile": {"hostile": True, "answers": True},
    "stages": {"stages": 2},
    "paths": {"dataflow": True},
    "unjudged": {"unjudged": (0, 5)},
}
"""What every figure must be able to draw, or have nothing to show of."""


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], RunData]]:
    """Opens a run of each kind, once for all tests, which must not change it."""
    with contextlib.ExitStack() as opened:

        @functools.cache
        def of(kind: str) -> RunData:
            path = made_run(tmp_path_factory.mktemp("kinds") / "run", **KINDS[kind])
            return opened.enter_context(RunData.open(path))

        yield of


@pytest.fixture(params=list(KINDS))
def any_run(request: pytest.FixtureRequest, kinds: Callable[[str], RunData]) -> RunData:
    """Each kind of a run that every figure must be able to draw, or have nothing to show of."""
    return kinds(request.param)
