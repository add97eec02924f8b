"""Recipes as parents: the bytes of merging twice on disk, without the disk in between."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import make, near, recipe, same_bytes, tensors_of

from evomerge.errors import CheckpointError, RecipeError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.live.model import LiveModel
from evomerge.merge.sources import Sources
from evomerge.recipe import Group, ModelSource, Recipe
from evomerge.recipe.lineage import flatten


def inner(family: SimpleNamespace, dtype: str | None) -> Recipe:
    parents = {"math": family.math, "japanese": family.japanese}
    return recipe("dare_ties", family.base, parents, parameters={"density": 0.5}, dtype=dtype, tokenizer="japanese",
                  groups=(Group({"density": 0.9}, layers=(1, 2)),), seed=3)  # fmt: skip


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16"])
@pytest.mark.parametrize("method", ["linear", "slerp", "ties", "dare_linear"])
def test_a_nested_recipe_equals_two_steps_on_disk(
    method: str, dtype: str | None, family: SimpleNamespace, tmp_path: Path
) -> None:
    nested = inner(family, dtype)
    middle = merge_to_disk(nested, tmp_path / "middle")
    two_steps = merge_to_disk(recipe(method, family.base, {"mix": middle, "code": family.code}), tmp_path / "two")
    at_once = recipe(method, family.base, {"mix": nested, "code": family.code})
    assert same_bytes(tensors_of(merge_to_disk(at_once, tmp_path / "one")), tensors_of(two_steps))
    live = LiveModel(ModelSource(str(family.base)))
    live.write(at_once)
    live.model.save_pretrained(tmp_path / "live")
    assert same_bytes(tensors_of(tmp_path / "live"), tensors_of(two_steps))


def test_a_nested_recipe_can_be_the_donor(family: SimpleNamespace, tmp_path: Path) -> None:
    nested = inner(family, "bfloat16")
    middle = merge_to_disk(nested, tmp_path / "middle")
    for name, source in (("nested", nested), ("folder", middle)):
        merge_to_disk(recipe("linear", None, {"mix": source, "code": family.code}), tmp_path / name)
    assert same_bytes(tensors_of(tmp_path / "nested"), tensors_of(tmp_path / "folder"))
    for file in ("config.json", "tokenizer.json"):
        assert (tmp_path / "nested" / file).read_bytes() == (tmp_path / "folder" / file).read_bytes()


def test_a_live_model_can_start_from_a_recipe(family: SimpleNamespace, tmp_path: Path) -> None:
    nested = inner(family, "bfloat16")
    live = LiveModel(nested)
    assert live.model.dtype == torch.bfloat16
    assert "あ" in live.tokenizer.get_vocab()
    assert same_bytes(dict(live.model.state_dict()), tensors_of(merge_to_disk(nested, tmp_path / "out")))


def test_lineage_may_be_deep(family: SimpleNamespace) -> None:
    deep: Path | Recipe = family.math
    for _ in range(4):
        deep = recipe("linear", None, {"old": deep, "new": family.code})
    assert isinstance(deep, Recipe)
    model = Sources().open(deep)
    name = "model.norm.weight"
    math, code = (load_file(folder / "model.safetensors")[name] for folder in (family.math, family.code))
    torch.testing.assert_close(model.load(name), math / 16 + code * 15 / 16)


def test_mistakes_deep_in_a_lineage_are_found(family: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown merge method 'lienar'; did you mean 'linear'"):
        Sources().plan(recipe("linear", None, {"mix": recipe("lienar", None, {"a": family.math})}))
    wide = make(tmp_path / "wide", 1, intermediate_size=28)
    with pytest.raises(CheckpointError, match="parent 'mix': the models do not fit base"):
        Sources().plan(recipe("linear", None, {"mix": recipe("ties", family.base, {"wide": wide})}))
    bad = near(tmp_path / "bad", family.base, 5)
    tensors = load_file(bad / "model.safetensors")
    tensors["model.norm.weight"][0] = torch.nan
    save_file(tensors, bad / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"parent 'mix': parent 'bad': tensor model.norm.weight of .* holds NaN"):
        merge_to_disk(recipe("linear", None, {"mix": recipe("linear", None, {"bad": bad, "ok": family.math})}),
                      tmp_path / "out")  # fmt: skip


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_a_flat_recipe_builds_the_nested_ones_model_but_for_rounding(method: str, family: SimpleNamespace) -> None:
    parents = {"math": family.math, "japanese": family.japanese}
    below = recipe(method, family.base, parents, parameters={"weight": {"math": 0.6, "japanese": 0.3}},
                   groups=(Group({"weight": 0.45}, layers=(0, 1), roles=("mlp",)),))  # fmt: skip
    nested = recipe(method, family.base, {"mix": below, "code": family.code}, parameters={"weight": 0.7})
    flat = flatten(nested)
    assert not any(isinstance(parent.source, Recipe) for parent in flat.parents)
    built = []
    for one in (nested, flat):
        live = LiveModel(ModelSource(str(family.base)))
        live.write(one)
        built.append({name: tensor.clone() for name, tensor in live.model.state_dict().items()})
    for name, tensor in built[0].items():
        torch.testing.assert_close(built[1][name], tensor, rtol=1e-5, atol=1e-6)
