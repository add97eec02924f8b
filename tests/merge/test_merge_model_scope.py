"""TIES with one ranking over the whole model, exact although it streams."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import llama, random_tensors, recipe, tensors_of, write_checkpoint

from evomerge.merge.apply import merge_tensor
from evomerge.merge.sources import Sources
from evomerge.recipe import Group


def built(of: object) -> tuple[list[str], dict[str, np.ndarray]]:
    plan = Sources().plan(of)  # type: ignore[arg-type]
    return [task.name for task in plan.tasks], {task.name: merge_tensor(plan, task).numpy() for task in plan.tasks}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("density", [0.0, 0.001, 0.2, 0.5, 0.97, 1.0])
def test_exactly_the_models_largest_entries_are_kept(density: float, ties: bool, tmp_path: Path) -> None:
    config, shapes = (
        llama(num_hidden_layers=1, vocab_size=8),
        random_tensors(llama(num_hidden_layers=1, vocab_size=8), 0),
    )
    generator = torch.Generator().manual_seed(1)
    deltas = {
        name: torch.randint(-2, 3, tensor.shape, generator=generator).float() if ties
        else torch.randn(tensor.shape, generator=generator)
        for name, tensor in shapes.items()
    }  # fmt: skip
    base = write_checkpoint(tmp_path / "base", {k: torch.zeros_like(v) for k, v in shapes.items()}, config)
    a = write_checkpoint(tmp_path / "a", deltas, config)
    order, out = built(recipe("ties", base, {"a": a}, parameters={"scope": "model", "density": density, "lambda": 2.0}))
    flat = np.concatenate([deltas[name].numpy().ravel() for name in order])
    kept = np.argsort(-np.abs(flat), kind="stable")[: math.floor(density * flat.size)]
    expected = np.zeros_like(flat)
    expected[kept] = 2 * flat[kept]
    np.testing.assert_array_equal(np.concatenate([out[name].ravel() for name in order]), expected)


def test_each_parent_and_each_group_has_its_own_threshold(tmp_path: Path) -> None:
    config = llama(num_hidden_layers=1, vocab_size=8)
    tensors = random_tensors(config, 0)
    base = write_checkpoint(tmp_path / "base", {k: torch.zeros_like(v) for k, v in tensors.items()}, config)
    a = write_checkpoint(tmp_path / "a", tensors, config)
    b = write_checkpoint(tmp_path / "b", {k: 100 * v for k, v in random_tensors(config, 1).items()}, config)
    of = recipe("ties", base, {"a": a, "b": b}, groups=(Group({"density": 0.9}, roles=("mlp",)),),
                parameters={"scope": "model", "density": {"a": 0.1, "b": 0.0}})  # fmt: skip
    _, out = built(of)
    flat = np.sort(np.abs(np.concatenate([t.numpy().ravel() for t in tensors.values()])))[::-1]
    threshold = flat[math.floor(0.1 * flat.size) - 1]
    for name, tensor in tensors_of(a).items():
        if "mlp" not in name:
            np.testing.assert_array_equal(out[name], np.where(np.abs(tensor) >= threshold, tensor, 0.0))
    assert max(np.abs(values).max() for name, values in out.items() if "mlp" in name) > 10
