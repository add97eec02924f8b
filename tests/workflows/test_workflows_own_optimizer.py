"""An optimizer in a file of the user's goes all the way: it is found by its name, searches, and is resumed."""

from pathlib import Path
from typing import Any

import pytest
from documented import write_example

from evomerge import api
from evomerge.cli.compose import compose
from evomerge.errors import ConfigError

SMALL = [
    "experiment=zoo_ja_math", "optimizer=random", "budget.candidates=5", "evaluation.finalists=2",
    "evaluation.split={search:6,validation:6,test:6}", "execution.threads=1",
]  # fmt: skip


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The optimizer of the documentation, in a file of the current folder."""
    write_example("optimizers.md", "my_climber.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    return "my_climber.py:Climber"


def rows(run: Path) -> list[Any]:
    return [(record.number, record.genome, record.fitness) for record in api.records(run)]


def test_an_optimizer_in_a_users_file_searches_and_is_resumed(own: str, tmp_path: Path) -> None:
    words = [*SMALL, f"optimizer.name={own}"]
    whole = api.search(compose(words), run_dir=tmp_path / "whole").path
    assert len(rows(whole)) == 5
    parts = api.search(compose([*words, "budget.candidates=2"]), run_dir=tmp_path / "parts").path
    api.resume(parts, budget={"candidates": 5})
    assert rows(parts) == rows(whole)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("my_climber.py:Walker", r"my_climber\.py has no 'Walker'"),
        ("my_climber.py:np", "must be a class that inherits evomerge.optimizers.Optimizer"),
        ("gone.py:Climber", r"there is no file gone\.py"),
    ],
)
def test_what_is_no_optimizer_is_refused_before_a_model_is_loaded(own: str, name: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        api.search(compose([*SMALL, f"optimizer.name={name}"]))


def test_an_option_that_it_does_not_take_is_named(own: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown option of the optimizer {own} 'sigma'"):
        api.search(compose([*SMALL, f"optimizer.name={own}", "+optimizer.sigma=0.1"]))
