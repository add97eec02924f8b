"""One browser for all tests of pages, and reports of made-up runs to open in it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_runs import made_run
from one_browser import Browser, start_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser of the session; tests are skipped where there is none."""
    with start_browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


MakeReport = Callable[..., Path]


@pytest.fixture(scope="session")
def make_report(tmp_path_factory: pytest.TempPathFactory) -> MakeReport:
    """Makes a run and its report: `make_report(hostile=True)`; the same ones are made once."""
    from evomerge import api

    made: dict[str, Path] = {}

    def make(*, runs: int = 1, **changes: Any) -> Path:
        name = f"{runs} {sorted(changes.items())}"
        if name not in made:
            folder = tmp_path_factory.mktemp("report")
            for seed in range(runs):
                made_run(folder / str(seed), seed=seed, **changes)
            made[name] = folder / "report.html"
            api.report(folder, out=made[name], strict=True)
        return made[name]

    return make
