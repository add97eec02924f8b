"""Weight matching: orders of units are found again, the model computes the same, and what is not understood stays."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import llama, random_tensors, recipe, same_bytes, tensors_of, write_checkpoint
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    MixtralConfig,
    OPTConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)

from evomerge.errors import RecipeError
from evomerge.merge.apply import merge_tensor
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.live.model import LiveModel
from evomerge.merge.methods import matching
from evomerge.merge.methods.matching import Matching, assign, reorder
from evomerge.merge.methods.units import RESIDUAL, Bunch, Units, find_units
from evomerge.merge.plan import place_of
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Recipe

Tensors = dict[str, torch.Tensor]

SIZES = {
    "vocab_size": 24, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 32,
}  # fmt: skip
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: llama(num_attention_heads=4, num_key_value_heads=2, head_dim=4),
    "llama, wide heads": lambda: llama(num_attention_heads=4, num_key_value_heads=4, head_dim=6),
    "llama, biases": lambda: llama(num_attention_heads=4, num_key_value_heads=1, head_dim=4, attention_bias=True,
                                   mlp_bias=True, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**SIZES, num_key_value_heads=2),
    "qwen3": lambda: Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=6),
    "phi": lambda: PhiConfig(**SIZES, num_key_value_heads=2),
    "opt": lambda: OPTConfig(vocab_size=24, hidden_size=16, ffn_dim=20, num_hidden_layers=2, num_attention_heads=4,
                             max_position_embeddings=32, word_embed_proj_dim=16),
}  # fmt: skip
UNTOUCHED: dict[str, tuple[Callable[[], Any], str]] = {
    "experts in one tensor": (lambda: MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=3), "experts"),
    "fused, slopes by number": (lambda: BloomConfig(vocab_size=24, hidden_size=16, n_layer=2, n_head=4), "attention"),
    "fused, transposed": (lambda: GPT2Config(vocab_size=24, n_embd=16, n_layer=2, n_head=4, n_positions=32), "attn"),
    "fused": (lambda: GPTNeoXConfig(**SIZES), "attention"),
}


def tensors_for(config: Any, seed: int) -> Tensors:
    """Random weights with biases and norms that are no constants."""
    return {name: x + (0.5 if "norm" in name else 0.0) for name, x in random_tensors(config, seed).items()}


def written(folder: Path, tensors: Tensors, config: Any) -> Path:
    write_checkpoint(folder, tensors, config)
    config.architectures = [AutoModelForCausalLM._model_mapping[type(config)].__name__]
    config.save_pretrained(folder)
    return folder


def units_of(folder: Path) -> tuple[Units, Tensors]:
    """The units of a checkpoint, and its tensors by the names in a merge."""
    plan = Sources().plan(recipe("linear", None, {"a": folder}))
    family = plan.family
    found = find_units({each.name: place_of(family, each) for each in family.tensors})
    return found, {each.name: family.load(0, each.name).clone() for each in family.tensors}


def shuffled(units: Units, tensors: Tensors, seed: int, residual: bool) -> Tensors:
    """The same function with all its units in a random order."""
    draw = np.random.default_rng(seed)
    orders: dict[str, np.ndarray] = {RESIDUAL: draw.permutation(units.sizes[RESIDUAL])} if residual else {}
    for bunch in units.bunches:
        if bunch.groups is None:
            orders[bunch.heads] = draw.permutation(units.sizes[bunch.heads])
            continue
        groups = draw.permutation(units.sizes[bunch.groups])
        inner = [draw.permutation(bunch.per_group) for _ in groups]
        orders[bunch.groups] = groups
        orders[bunch.heads] = np.concatenate([g * bunch.per_group + own for g, own in zip(groups, inner, strict=True)])
    return {name: reorder(x, units.axes.get(name, ()), orders).contiguous() for name, x in tensors.items()}


def logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([[1, 4, 5, 9, 2], [3, 3, 7, 23, 0]])).logits


def built(of: Recipe) -> Tensors:
    plan = Sources().plan(of)
    return {task.name: merge_tensor(plan, task).clone() for task in plan.tasks}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_model_in_another_order_computes_the_same_and_merges_to_the_first(
    kind: str, residual: bool, tmp_path: Path
) -> None:
    config = CONFIGS[kind]()
    a = written(tmp_path / "a", tensors_for(config, 0), config)
    units, tensors = units_of(a)
    assert len(units.bunches) == 4, "an MLP and an attention in each layer"
    assert not units.strange
    folders = {"a": a}
    for i in (1, 2):
        other = shuffled(units, tensors, i, residual)
        moved = [name for name, x in other.items() if not torch.equal(x, tensors[name])]
        assert len(moved) >= 6, moved
        folders[f"b{i}"] = written(tmp_path / f"b{i}", other, config)
        torch.testing.assert_close(logits(folders[f"b{i}"]), logits(a), rtol=1e-4, atol=1e-5)
    of = recipe("git_rebasin", None, folders, parameters={"weight": {"a": 0.5, "b1": 0.25, "b2": 0.25},
                                                          "residual": residual})  # fmt: skip
    for name, x in built(of).items():
        torch.testing.assert_close(x, tensors[name], rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("kind", UNTOUCHED)
def test_what_is_not_understood_keeps_its_order_and_the_residual_stream_with_it(kind: str, tmp_path: Path) -> None:
    make, part = UNTOUCHED[kind]
    config = make()
    a = written(tmp_path / "a", tensors_for(config, 0), config)
    units, tensors = units_of(a)
    assert any(part in name for name in units.strange)
    assert not any(axis is not None and axis.units != RESIDUAL for name in tensors if part in name
                   for axis in units.axes.get(name, ()) if ".mlp." not in name)  # fmt: skip
    other = shuffled(units, tensors, 1, residual=False)
    b = written(tmp_path / "b", other, config)
    torch.testing.assert_close(logits(b), logits(a), rtol=1e-4, atol=1e-5)
    for name, x in built(recipe("git_rebasin", None, {"a": a, "b": b})).items():
        torch.testing.assert_close(x, tensors[name], rtol=1e-6, atol=1e-7, msg=name)
    with pytest.raises(RecipeError, match="residual"):
        built(recipe("git_rebasin", None, {"a": a, "b": b}, parameters={"residual": True}))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three Llamas that have nothing in common."""
    folder = tmp_path_factory.mktemp("strangers")
    config = CONFIGS["llama"]()
    return {name: written(folder / name, tensors_for(config, seed), config) for seed, name in enumerate("abc")}


def objective(a: Tensors, b: Tensors) -> float:
    return sum(float((a[name].double() * b[name].double()).sum()) for name in a)


@pytest.mark.parametrize("residual", [False, True])
def test_no_step_lowers_the_objective(residual: bool, strangers: dict[str, Path]) -> None:
    units, a = units_of(strangers["a"])
    _, b = units_of(strangers["b"])
    found = Matching(units, lambda name: (a[name], b[name]))
    values = [objective(a, b)]
    steps = [*([Bunch(RESIDUAL)] if residual else []), *units.bunches] * 3
    for bunch in steps:
        found.match([bunch])
        values.append(objective(a, {name: reorder(x, units.axes.get(name, ()), found.orders) for name, x in b.items()}))
    assert all(after >= before - 1e-9 for before, after in pairwise(values))
    assert values[-1] > values[0] + 0.1
    if residual:
        whole = Matching(units, lambda name: (a[name], b[name])).match_all()
        ended = objective(a, {name: reorder(x, units.axes.get(name, ()), whole) for name, x in b.items()})
        assert ended >= values[-1] - 1e-9


def test_groups_and_their_heads_have_the_best_order_of_all(strangers: dict[str, Path]) -> None:
    units, a = units_of(strangers["a"])
    _, b = units_of(strangers["b"])
    bunch = next(one for one in units.bunches if one.groups is not None)
    names = units.tensors_of(bunch.heads, bunch.groups)

    def worth(orders: dict[str, np.ndarray]) -> float:
        return objective({name: a[name] for name in names},
                         {name: reorder(b[name], units.axes[name], orders) for name in names})  # fmt: skip

    every = [
        worth({str(bunch.groups): np.array(groups),
               bunch.heads: np.array([groups[0] * 2 + x for x in first] + [groups[1] * 2 + x for x in second])})
        for groups in permutations(range(2)) for first in permutations(range(2)) for second in permutations(range(2))
    ]  # fmt: skip
    found = Matching(units, lambda name: (a[name], b[name])).match([bunch])
    assert worth(found) == pytest.approx(max(every))


def test_the_average_of_models_that_are_their_own_copies_is_that_model(strangers: dict[str, Path]) -> None:
    of = recipe("git_rebasin", None, {"a": strangers["a"], "b": strangers["a"]})
    expected = tensors_of(strangers["a"])
    for name, x in built(of).items():
        torch.testing.assert_close(x, expected[name], rtol=1e-6, atol=1e-7)
    alone = {"a": 1.0, "b": 0.0}
    assert same_bytes(built(recipe("git_rebasin", None, {"a": strangers["a"], "b": strangers["b"]},
                                   parameters={"weight": alone})), expected)  # fmt: skip


def test_a_weight_of_one_for_another_parent_is_that_parent_in_the_first_ones_order(
    strangers: dict[str, Path], tmp_path: Path
) -> None:
    of = recipe(
        "git_rebasin", None, {"a": strangers["a"], "b": strangers["b"]}, parameters={"weight": {"a": 0, "b": 1}}
    )
    out = merge_to_disk(of, tmp_path / "out")
    assert not same_bytes(tensors_of(out), tensors_of(strangers["b"]))
    torch.testing.assert_close(logits(out), logits(strangers["b"]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("residual", [False, True])
def test_in_memory_and_on_disk_the_bytes_are_the_same(
    residual: bool, strangers: dict[str, Path], tmp_path: Path
) -> None:
    of = recipe("git_rebasin", None, strangers, parameters={"weight": {"a": 0.5, "b": 0.2, "c": 0.3},
                                                            "residual": residual})  # fmt: skip
    live = LiveModel(ModelSource(str(strangers["a"])))
    live.write(of)
    disk = tensors_of(merge_to_disk(of, tmp_path / "out"))
    assert same_bytes(disk, built(of))
    state = live.model.state_dict()
    assert all(torch.equal(state[name], x) for name, x in disk.items())


def test_an_assignment_of_many_units_is_greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    order = draw.permutation(60)
    rows = draw.normal(size=(60, 30))
    similar = rows @ (rows[np.argsort(order)]).T  # row u of A is row order[u] of B
    exact = assign(similar)
    assert np.array_equal(exact, order)
    monkeypatch.setattr(matching, "EXACT", 10)
    assert np.array_equal(assign(similar), order)
    noisy = draw.normal(size=(60, 60)).astype(np.float32)
    greedy = assign(noisy)
    assert sorted(greedy) == list(range(60))
    assert noisy[np.arange(60), greedy].sum() > 0.8 * noisy.max(axis=1).sum()
    first = int(noisy.max(axis=1).argmax())
    assert greedy[first] == noisy[first].argmax()
