"""mergekit's `model+lora`: an adapter on a model, read and written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import make

from evomerge.interop.mergekit import read_mergekit
from evomerge.interop.mergekit.writer import write_mergekit
from evomerge.recipe import ModelSource

V2 = ModelSource("a", adapter="org/lora", adapter_revision="v2")
LINEAR = (
    "merge_method: linear\nmodels:\n- {model: %s, parameters: {weight: 0.5}}\n- {model: a, parameters: {weight: 0.5}}\n"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a", 0)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("a+org/lora", ModelSource("a", adapter="org/lora")),
        ("a+org/lora@v2", V2),
        ("{model: {path: a}, lora: {path: org/lora, revision: v2}}", V2),
        ("{model: a, lora: x+y}", ModelSource("a", adapter="x+y")),
    ],
)  # fmt: skip
def test_it_is_read_and_written_again(written: str, source: ModelSource) -> None:
    recipe = read_mergekit(LINEAR % written).recipe
    assert recipe.parents[0].source == source
    made = write_mergekit(recipe)
    assert not made.problems
    assert [one.source for one in read_mergekit(made.text).recipe.parents] == [source, ModelSource("a")]
