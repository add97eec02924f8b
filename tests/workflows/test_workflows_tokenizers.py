"""Tokenizers that do not fit are named before anything is loaded, whichever command finds them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evomerge import api
from evomerge.assembly.prepare import prepare
from evomerge.assembly.spaces import baselines
from evomerge.cli.compose import compose
from evomerge.cli.main import main
from evomerge.errors import CheckpointError, ConfigError
from evomerge.export.hf_folder import export_recipe
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.zoo import zoo_path

SMALL = ["experiment=zoo_ja_math", "budget.candidates=2", "evaluation.split={search:2,validation:2,test:2}"]
LAYERS = ["experiment=zoo_dataflow", *SMALL[1:]]


@pytest.fixture
def math(tmp_path: Path) -> Path:
    shutil.copytree(zoo_path("math"), tmp_path / "math")
    return tmp_path / "math"


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    change(data)
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")


def swap(data: dict[str, Any]) -> None:
    vocab = data["model"]["vocab"]
    vocab["1"], vocab["2"] = vocab["2"], vocab["1"]


def enlarge(data: dict[str, Any]) -> None:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    data["added_tokens"].append({"id": 99_999, "content": "<far>", **flags})


def lower(data: dict[str, Any]) -> None:
    data["normalizer"] = {"type": "Lowercase"}


def test_a_search_names_tokens_with_other_numbers(math: Path, tmp_path: Path) -> None:
    rewrite(math, swap)
    with pytest.raises(ConfigError, match=r"math give 2 of their tokens other numbers .*'1' is"):
        api.search(compose([*SMALL, f"models.parents.math={math}"]), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_search_of_layer_paths_stacks_them_but_has_no_average(math: Path) -> None:
    rewrite(math, swap)
    prepared = prepare(compose([*LAYERS, f"models.parents.math={math}"]))
    assert baselines(prepared.config, prepared.sources).keys() == {"math", "japanese"}
    assert prepared.cautions == []


@pytest.mark.parametrize("setup", [SMALL, LAYERS], ids=["weights", "layers"])
def test_a_search_names_tokens_without_a_row(setup: list[str], math: Path, tmp_path: Path) -> None:
    rewrite(math, enlarge)
    with pytest.raises(ConfigError) as caught:
        api.search(compose([*setup, f"models.parents.math={math}"]), run_dir=tmp_path / "run")
    assert f"the tokenizer of math ({math})" in str(caught.value)
    assert "have none (the first is '<far>', number" in str(caught.value)
    assert str(caught.value).count("the tokenizer of") == 1
    assert not (tmp_path / "run").exists()


def test_every_command_names_tokens_without_a_row(
    math: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(math, enlarge)
    of = Recipe("linear", (Parent("math", ModelSource(str(math))),))
    (tmp_path / "recipe.yaml").write_text(of.to_yaml())
    assert main(["merge", str(tmp_path / "recipe.yaml"), str(tmp_path / "out")]) == 2
    assert main(["evaluate", str(math), "--task", "zoo_ja_math", "--include-path", "zoo:tasks"]) == 2
    assert capsys.readouterr().err.count("so that 1 tokens have none") == 2
    with pytest.raises(CheckpointError, match="so that 1 tokens have none"):
        export_recipe(of, tmp_path / "exported")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["math", "recipe.yaml"]


def test_other_rules_are_a_warning_of_the_search(math: Path) -> None:
    rewrite(math, lower)
    prepared = prepare(compose([*SMALL, f"models.parents.math={math}"]))
    assert any("cut text differently" in one.text and "math" in one.text for one in prepared.cautions)
