"""Fixtures that several parts share."""

import gc
import os
import sys
from pathlib import Path
from typing import Any

import pytest

# Models here are tiny: threads only wait for each other, on a busy machine for long. Read when torch is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without this, what asks the Hub for a licence or a data set waits for minutes where there is no network. Read when
# huggingface_hub is first imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Libraries and thousands of cases are all kept: looking for garbage among them meanwhile finds nothing.
gc.disable()


def group(file: str) -> str:
    """Name what runs in one process of `pytest -n`: all files that start Ray are a group, so are those that share a
    browser, and each other file is one."""
    if Path(file).parent.name == "browser":
        return "browser"
    stem = Path(file).stem
    return "ray" if "ray" in stem.split("_") or stem == "test_processes" else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with those that start Ray, since they wait for most of their time."""
    items.sort(key=lambda item: group(str(item.path)) != "ray")


def pytest_collection_finish() -> None:
    """Leave what importing made alone: to look for garbage among a million objects of libraries takes half a second."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_runtest_setup() -> None:
    """Keep lm-eval from noting the machine beside its results, which no test reads: it runs `pip list` each time."""
    evaluator = sys.modules.get("lm_eval.evaluator")
    if evaluator is not None:
        evaluator.add_env_info = lambda results: None  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep files together, which make their fixtures once."""
    from xdist.scheduler import LoadFileScheduling

    class ByGroup(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid.split("::")[0])

    return ByGroup(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Any:
    """Keep halves of surrogate pairs, which tests of odd names log, from what processes of `pytest -n` tell."""
    from evomerge.system.text import storable

    report = yield
    report.sections = [(name, storable(text, most=None)) for name, text in report.sections]
    return report


SMALL = [
    "experiment=zoo_ja_math",
    "budget.candidates=5",
    "evaluation.split={search:6,validation:6,test:6}",
    "evaluation.finalists=2",
    "execution.threads=1",
]
"""A search of the built-in zoo that takes seconds."""


@pytest.fixture(scope="session")
def zoo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished small search of the zoo; tests must not change it."""
    from evomerge import api
    from evomerge.cli.compose import compose

    return api.search(compose(SMALL), run_dir=tmp_path_factory.mktemp("runs") / "zoo").path


@pytest.fixture
def lazy_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let databases commit without waiting for the disk, which only a power cut could tell."""
    from evomerge.store import Database

    prepare = Database._prepare

    def hasty(self: Database) -> None:
        prepare(self)
        self._db.execute("PRAGMA synchronous = OFF")

    monkeypatch.setattr(Database, "_prepare", hasty)


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a search that takes about a second; see `tiny_search`."""
    from tiny_search import write_tiny

    return write_tiny(tmp_path_factory.mktemp("tiny"))
