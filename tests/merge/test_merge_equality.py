"""Which tensors of parents are those of the base: known answers, and how little is read to find out."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import llama, make, recipe, write_checkpoint

from evomerge.merge.equality import same_values
from evomerge.merge.methods.base import BASE
from evomerge.merge.sources import Sources


def test_same_values() -> None:
    one = torch.linspace(-1, 1, 5_000_000)
    assert same_values(one, one.clone())
    for place in (0, 2_000_003, 4_999_999):
        other = one.clone()
        other[place] += 1e-6 if place else 1e-3
        assert not same_values(one, other)
    assert same_values(torch.tensor([float("nan"), 1.0]), torch.tensor([float("nan"), 1.0])), "the same bytes"
    assert not same_values(torch.tensor([0.0]), torch.tensor([-0.0])), "other bytes"
    assert same_values(torch.tensor(2.0), torch.tensor(2.0))
    assert same_values(torch.zeros(0), torch.zeros(0))
    assert same_values(torch.ones(4, 6).T, torch.ones(6, 4)), "a view"


def test_values_of_two_types_are_compared_in_fp32() -> None:
    exact = torch.tensor([0.5, -1.25, 3.0])
    assert same_values(exact, exact.bfloat16())
    assert same_values(exact.half(), exact.bfloat16())
    assert not same_values(torch.tensor([0.1]), torch.tensor([0.1]).bfloat16())


def moved(folder: Path, base: Path, names: list[str], *, shards: bool = False) -> Path:
    """A copy of the base in which some tensors, by a part of their names, are others."""
    tensors = {
        name: tensor + 0.01 if any(part in name for part in names) else tensor.clone()
        for name, tensor in load_file(base / "model.safetensors").items()
    }
    write_checkpoint(folder, tensors, llama())
    if shards:
        (folder / "model.safetensors").unlink()
        half = sorted(tensors)[: len(tensors) // 2]
        parts = {"model-00001-of-00002.safetensors": half}
        parts["model-00002-of-00002.safetensors"] = sorted(set(tensors) - set(half))
        for file, mine in parts.items():
            save_file({name: tensors[name] for name in mine}, folder / file, metadata={"format": "pt"})
        index = {name: file for file, mine in parts.items() for name in mine}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


@pytest.mark.parametrize("shards", [False, True])
def test_frozen_tensors_are_found_by_parent(tmp_path: Path, shards: bool) -> None:
    base = make(tmp_path / "base", 0)
    a = moved(tmp_path / "a", base, ["layers.1."], shards=shards)
    b = moved(tmp_path / "b", base, ["layers.1.mlp", "embed"])
    plain = recipe("task_arithmetic", base, {"a": a, "b": b})
    equal = Sources().equal_parents(plain, BASE)
    assert equal["model.layers.0.mlp.up_proj.weight"] == {0, 1}
    assert equal["model.layers.1.self_attn.q_proj.weight"] == {1}
    assert equal["model.layers.1.mlp.up_proj.weight"] == set()
    assert equal["model.embed_tokens.weight"] == {0}
    assert equal["lm_head.weight"] == {0, 1}


def test_without_a_base_parents_are_compared_with_the_first(tmp_path: Path) -> None:
    base = make(tmp_path / "base", 0)
    a, b = moved(tmp_path / "a", base, ["layers.0."]), moved(tmp_path / "b", base, ["layers.0.", "norm"])
    equal = Sources().equal_parents(recipe("linear", None, {"a": a, "b": b}), 0)
    assert equal["model.layers.0.mlp.up_proj.weight"] == {0, 1}
    assert equal["model.norm.weight"] == {0}


def test_a_parent_that_is_a_recipe_is_not_computed_for_this(tmp_path: Path) -> None:
    base = make(tmp_path / "base", 0)
    inner = recipe("linear", None, {"base": base})
    equal = Sources().equal_parents(recipe("task_arithmetic", base, {"a": inner, "b": base}), BASE)
    assert set(equal.values()) == {frozenset({1})}


def test_the_same_models_are_compared_once(tmp_path: Path) -> None:
    base, sources = make(tmp_path / "base", 0), Sources()
    plain = recipe("task_arithmetic", base, {"a": make(tmp_path / "a", 1)})
    first = sources.equal_parents(plain, BASE)
    assert sources.equal_parents(plain, BASE) is first
