"""Models in memory, on the CPU and on a pretended device, compared bit by bit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from pretended_devices import pretended_devices

from evomerge.merge.live.models import LiveModels
from evomerge.recipe import ModelSource, Recipe


def state(live: LiveModels) -> dict[str, torch.Tensor]:
    """The tensors of the model in memory, brought to the CPU."""
    return {name: tensor.detach().cpu() for name, tensor in live.model.state_dict(keep_vars=True).items()}


def assert_same_on_a_device(recipes: Sequence[Recipe], base: Path, parents: Iterable[Path]) -> None:
    """Write recipes one after the other to a device that keeps the parents, and to the CPU."""
    plain, found = LiveModels(), []
    with pretended_devices(), torch.no_grad():
        live = LiveModels(device=torch.device("cuda:0"))
        live.load(ModelSource(str(base)))
        live.keep([ModelSource(str(folder)) for folder in (*parents, base)])
        for one in recipes:
            live.write(one)
            found.append(state(live))
    for one, got in zip(recipes, found, strict=True):
        plain.write(one)
        assert all(torch.equal(got[name], tensor) for name, tensor in state(plain).items()), one.method
