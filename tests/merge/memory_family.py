"""Models of a few tensors that are in memory alone, planned and merged as opened checkpoints are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from types import SimpleNamespace
from typing import Any

import torch

from evomerge.merge.apply import merge_tensor
from evomerge.merge.cache import ParentCache
from evomerge.merge.files.checkpoint import TensorInfo
from evomerge.merge.files.places import Merged, TensorPlace
from evomerge.merge.plan import check_recipe, make_plan
from evomerge.recipe import ModelSource, Parent, Recipe

Tensors = Mapping[str, torch.Tensor]

N_LAYERS = 3

_serials = count(1 << 40)


def place_of(name: str) -> TensorPlace:
    """The place that a name like "layers.1.mlp.up" or "embedding" says; a last part "turned" is a transposed matrix."""
    parts = name.split(".")
    layer = int(parts[1]) if parts[0] == "layers" else None
    role = parts[2] if layer is not None else parts[0]
    return TensorPlace(role, layer, buffer=parts[-1] == "mask", transposed=parts[-1] == "turned")


class MemoryFamily:
    """What `evomerge.merge.family.Family` is for plans and merges; all models have tensors of the same names."""

    n_layers = N_LAYERS
    adapted = False

    def __init__(self, parents: Mapping[str, Tensors], base: Tensors | None, cache: str = "auto") -> None:
        models = [*parents.values(), *([] if base is None else [base])]
        self._tensors = models
        self.members = [
            (name, SimpleNamespace(serial=next(_serials), label=name))
            for name in (*parents, *([] if base is None else ["base"]))
        ]
        self.n_parents = len(parents)
        self.donor = -1 if base is not None else 0
        self.parent_cache = ParentCache(cache)
        donor = models[self.donor]
        self.tensors = tuple(
            Merged(name, TensorInfo(tuple(tensor.shape), tensor.dtype), place_of(name))
            for name, tensor in donor.items()
        )

    def model(self, index: int) -> Any:
        return self.members[index][1]

    def info(self, index: int, name: str) -> TensorInfo:
        tensor = self._tensors[index][name]
        return TensorInfo(tuple(tensor.shape), tensor.dtype)

    def load(self, index: int, name: str) -> torch.Tensor:
        return self._tensors[index][name]

    def near(self, device: torch.device, index: int, name: str) -> torch.Tensor:
        return self._tensors[index][name]

    def shared(self, indices: Sequence[int], name: str) -> bool:
        return False

    def home(self, index: int, name: str) -> None:
        return None

    def dtype(self, name: str) -> torch.dtype:
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def merged(
    method: str,
    parents: Mapping[str, Tensors],
    base: Tensors | None,
    parameters: Mapping[str, Any],
    *,
    dtype: str | None = None,
    seed: int = 0,
    order: Sequence[str] | None = None,
    cache: str = "auto",
    backwards: bool = False,
    again: bool = False,
    fused: bool = True,
) -> dict[str, torch.Tensor]:
    """Merge through the plan, as a search does.

    Args:
        order: of the parents; None: as given.
        cache: of the parents.
        backwards: whether the last tensor comes first.
        again: whether all is done twice and the second result counts, which uses what the cache holds.
        fused: whether methods may use their programs; else their plain arithmetic is run.
    """
    names = list(order or parents)
    of = Recipe(
        method,
        tuple(Parent(name, ModelSource(name)) for name in names),
        None if base is None else Parent("base", ModelSource("base")),
        parameters,
        dtype=dtype,
        seed=seed,
    )
    methods = check_recipe(of)
    family: Any = MemoryFamily({name: parents[name] for name in names}, base, cache)
    plan = make_plan(of, methods, family)
    tasks = [task if fused else replace(task, method=replace(task.method, program=None)) for task in plan.tasks]
    if backwards:
        tasks.reverse()
    for _ in range(1 + again):
        made = {task.name: merge_tensor(plan, task).clone() for task in tasks}
    return {task.name: made[task.name] for task in plan.tasks}
