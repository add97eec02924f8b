"""`space.start`: a recipe of the search's own models, ours or mergekit's, in the search's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evomerge.assembly import spaces as stages
from evomerge.assembly.inputs import find_inputs
from evomerge.assembly.start import start_recipe
from evomerge.config.reader import from_data
from evomerge.errors import ConfigError
from evomerge.merge.sources import Sources
from evomerge.store.changes import file_changes

OURS = """
method: ties
base: zoo:base
parents: {j: zoo:japanese, m: zoo:math}
parameters: {lambda: 1.5, weight: {j: 0.25, m: 1.25}}
groups:
  - {layers: [0, 2], parameters: {density: 0.25}}
dtype: float32
seed: 3
"""
MERGEKIT = """
merge_method: ties
base_model: zoo:base
models:
  - {model: zoo:japanese, parameters: {weight: 0.25, density: [0.2, 0.8]}}
  - {model: zoo:math, parameters: {weight: 1.25}}
parameters: {normalize: true}
dtype: float32
"""


def data(start: Path, **sections: Any) -> dict[str, Any]:
    return {
        "models": {"base": "zoo:base", "parents": {"japanese": "zoo:japanese", "math": "zoo:math"}, "dtype": "float32"},
        "method": "ties",
        "space": {"start": str(start)},
        "budget": {"candidates": 4},
        "evaluation": {"tasks": [{"name": "zoo_ja_math", "metric": "acc"}], "include_path": "zoo:tasks"},
        **sections,
    }


def written(folder: Path, text: str) -> Path:
    path = folder / "start.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("text", [OURS, MERGEKIT])
def test_the_first_candidate_is_the_recipe_in_the_searchs_names(text: str, tmp_path: Path) -> None:
    config, sources = from_data(data(written(tmp_path, text))), Sources()
    found, (space,) = stages.check_stages(config, sources)
    assert found == []
    (stage,) = stages.make_stages(config, sources, (1.0,))
    first = stage.begin(None).ask()
    assert first.number == 0 and first.recipe == space.decode(space.genome(space.start))
    assert [parent.name for parent in first.recipe.parents] == ["japanese", "math"]
    from evomerge.interop.load import load_recipe

    file = load_recipe(tmp_path / "start.yaml")
    names = dict(zip((one.name for one in file.parents), ("japanese", "math"), strict=True))
    for tensor in sources.family(first.recipe).tensors:
        here = tensor.place.role, tensor.place.layer, tensor.name
        said = {key: {names[name]: number for name, number in value.items()} if hasattr(value, "items") else value
                for key, value in file.parameters_of(*here).items()}  # fmt: skip
        now = {
            key: dict(one) if hasattr(one, "items") else one for key, one in first.recipe.parameters_of(*here).items()
        }
        assert now == said
    assert first.recipe.seed == file.seed
    weights = {gene.name: gene.start for gene in space.genes if gene.name.startswith("weight.math")}
    assert set(weights.values()) == {1.25} and len(weights) == len(space.regions)


def test_every_difference_between_the_models_is_named_at_once(tmp_path: Path) -> None:
    text = OURS.replace("m: zoo:math", "m: zoo:other").replace("base: zoo:base", "base: {path: zoo:base, revision: x}")
    found, _ = stages.check_stages(from_data(data(written(tmp_path, text))), Sources())
    assert found == [
        "`space.start`: its parent m (zoo:other) is none of `models.parents`",
        "`space.start`: `models.parents.math` (zoo:math) is no parent of it",
        "`space.start`: its base is zoo:base at x, but `models.base` is zoo:base",
    ]
    text = OURS.replace("{j: zoo:japanese, m: zoo:math}", "{m: zoo:math, j: zoo:japanese}")
    found, _ = stages.check_stages(from_data(data(written(tmp_path, text))), Sources())
    assert found == ["`space.start`: its parents come in the order math, japanese; list `models.parents` in that order"]
    text = OURS.replace("float32", "bfloat16") + "tokenizer: m\n"
    found, _ = stages.check_stages(from_data(data(written(tmp_path, text))), Sources())
    assert found == [
        "`space.start`: its dtype is bfloat16, but `models.dtype` is float32; set one to the other",
        "`space.start`: its tokenizer is math, but `models.tokenizer` is null; set one to the other",
    ]


def test_a_tokenizer_that_is_built_is_put_in_the_searchs_names(tmp_path: Path) -> None:
    tokens = "tokenizer: {source: m, tokens: {a: j, b: {kind: zero}, c: {kind: model_token, model: base, token: d}}}"
    start = written(tmp_path, OURS + tokens)
    given = data(start)
    given["models"]["tokenizer"] = {
        "source": "math",
        "tokens": {"a": "japanese", "b": {"kind": "zero"}, "c": {"kind": "model_token", "model": "base", "token": "d"}},
    }
    recipe = start_recipe(from_data(given))
    assert recipe is not None and recipe.tokenizer == from_data(given).models.tokenizer
    with pytest.raises(ConfigError, match=r"its tokenizer is {'source': 'math', .*}, but `models.tokenizer` is null"):
        start_recipe(from_data(data(start)))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("method: passthrough\nparents: {a: zoo:math}\npath: [{parent: a, layers: [0, 6]}]", "is a layer path"),
        (OURS.replace("method: ties", "method: dare_ties"), r"merges by dare_ties, but `method.name` is ties"),
        (OURS.replace("1.25", "2.5"), r"weight of ties for math is 2.5 .*`space.genes.weight: {high: 2.5}`"),
        (OURS.replace("density: 0.25", "densty: 0.25"), r"did you mean 'density'"),
        ("nonsense: 1", r"`space.start`: .*start.yaml"),
    ],
)
def test_a_recipe_with_which_no_search_can_begin_is_refused(text: str, what: str, tmp_path: Path) -> None:
    import re

    found, _ = stages.check_stages(from_data(data(written(tmp_path, text))), Sources())
    assert re.search(what, "\n".join(found)), found


def test_the_content_of_the_recipe_is_an_input_of_the_run(tmp_path: Path) -> None:
    path = written(tmp_path, OURS)
    whole = data(path)
    before = find_inputs(whole, from_data(whole)).inputs
    moved = tmp_path / "moved.yaml"
    path.rename(moved)
    again = data(moved)
    now = find_inputs(again, from_data(again)).inputs
    assert file_changes(before, now) == [] and before.keys == now.keys
    moved.write_text(OURS.replace("1.5", "1.6"))
    assert file_changes(before, find_inputs(again, from_data(again)).inputs) == ["space.start changed"]
    moved.unlink()
    assert "space.start: cannot read" in find_inputs(again, from_data(again)).problems[0]
    with pytest.raises(ConfigError, match=r"`space\.start`"):
        stages.make_space(from_data(again), from_data(again).stages[0].space, Sources(), None)
