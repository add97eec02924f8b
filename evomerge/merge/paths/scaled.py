"""The tensors of a layer path that its parents do not have as they are, as values for a live model."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeAlias

import torch

from evomerge.merge.paths.plan import PathPlan, PathTask
from evomerge.merge.tokens.view import has_moved_rows

Scaled: TypeAlias = "Mapping[int | None, Mapping[str, torch.Tensor]]"
"""Steps of a path (None: outside of the layers) to the parameters that are made there, by their names in a layer."""


class ScaledTensors:
    """Makes the tensors that are scaled, or have rows in another order, of one path after another.

    What the next path has, too, is not made again. All other tensors of a live path are its parents' own; these take
    memory.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, Mapping[str, torch.Tensor]] = {}

    def of(self, plan: PathPlan) -> Scaled:
        """Return the tensors of a plan that are made, with the values that they have on disk without folding.

        Raises:
            CheckpointError: if a parent's tensor cannot be read or holds NaN or Inf.
            RecipeError: if a result is not finite.
        """
        together: dict[tuple[int | None, str], list[PathTask]] = {}
        for task in plan.tasks:
            together.setdefault((task.step, task.target), []).append(task)
        found: dict[int | None, dict[str, torch.Tensor]] = {}
        kept: dict[Hashable, Mapping[str, torch.Tensor]] = {}
        for (step, target), tasks in together.items():
            model = plan.compatible.model(tasks[0].parent)
            if all(task.scale == 1.0 and not has_moved_rows(model, task.source) for task in tasks):
                continue
            key = (model.serial, target, *((task.source, task.scale, task.dtype) for task in tasks))
            if key not in kept:
                kept[key] = self._kept.get(key) or _made(plan, target, tasks)
            found.setdefault(step, {}).update(kept[key])
        self._kept = kept
        return found


def _made(plan: PathPlan, target: str, tasks: list[PathTask]) -> dict[str, torch.Tensor]:
    """Return the parameters that some tensors fill, by their names in the layer (outside of layers: in the model)."""
    naming = plan.compatible.model(tasks[0].parent).naming
    whole = naming.targets[tasks[0].source]
    if whole not in naming.parts:
        return {target: plan.load(tasks[0])}
    prefix = whole.removesuffix(target)
    made = naming.convert(whole, {task.source: plan.load(task) for task in tasks})
    return {name.removeprefix(prefix): tensor for name, tensor in made.items()}
