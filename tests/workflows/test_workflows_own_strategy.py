"""A strategy in a file of the user's: recipes bred from recipes, without a space, an optimizer or a genome."""

from pathlib import Path
from typing import Any

import pytest
from documented import write_example

from evomerge import api
from evomerge.cli.compose import compose
from evomerge.errors import ConfigError

SMALL = [
    "experiment=zoo_ja_math", "budget.candidates=6", "evaluation.finalists=2",
    "evaluation.split={search:6,validation:6,test:6}", "execution.threads=1",
]  # fmt: skip


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The strategy of the documentation, in a file of the current folder."""
    write_example("strategies.md", "my_pairs.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    return "my_pairs.py:Pairs"


def rows(run: Path) -> list[Any]:
    return [(record.number, record.recipe.content_hash, record.fitness) for record in api.records(run)]


def test_a_strategy_in_a_users_file_searches_and_is_resumed(own: str, tmp_path: Path) -> None:
    words = [*SMALL, f"strategy.name={own}"]
    whole = api.search(compose(words), run_dir=tmp_path / "whole").path
    found = api.records(whole)
    assert len(found) == 6
    assert all(record.genome is None for record in found)
    assert any(record.recipe.parents[0].name != "math" for record in found)
    parts = api.search(compose([*words, "budget.candidates=3"]), run_dir=tmp_path / "parts").path
    api.resume(parts, budget={"candidates": 6})
    assert rows(parts) == rows(whole)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["strategy.name=vectors"], "unknown strategy 'vectors'; did you mean 'vector'"),
        (["strategy.name=my_pairs.py:Recipe"], "must be a class that inherits evomerge.strategies.Strategy"),
        (["+strategy.size=3"], "unknown option of the strategy vector 'size'"),
    ],
)
def test_what_is_no_strategy_is_refused_before_a_model_is_loaded(own: str, words: list[str], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        api.search(compose([*SMALL, *words]))
