"""Compute one tensor of a plan: fp32 arithmetic, one cast at the end."""

from __future__ import annotations

import math

import torch

from evomerge.errors import RecipeError
from evomerge.merge.methods import Inputs
from evomerge.merge.methods.base import BASE, Cut
from evomerge.merge.parents import Family
from evomerge.merge.plan import Plan, TensorTask


def merge_tensor(plan: Plan, task: TensorTask) -> torch.Tensor:
    """Return one tensor of the result, in its final type; it may be a parent's own memory, so do not change it.

    Raises:
        CheckpointError: if a parent's tensor cannot be read or holds NaN or Inf.
        RecipeError: if the result is not finite in its final type.
    """
    family, name = plan.family, task.name
    if task.copy_of is not None:
        made = family.load(task.copy_of, name)
        if made.dtype == task.dtype:
            return made
    else:
        assert task.values is not None  # a task is either copied or merged
        made = plan.method.merge(
            Inputs(
                base=family.load(BASE, name).float() if plan.method.spec.needs_base else None,
                parents=[family.load(index, name).float() for index in task.inputs],
                values=task.values,
                seeds=task.seeds,
                cuts=_model_cuts(plan, task),
            )
        )
    result = made.to(task.dtype)
    if result.is_floating_point() and not result.isfinite().all():
        largest = made[made.isfinite()].abs().max().item() if made.isfinite().any() else math.nan
        raise RecipeError(
            f"the merged {name} does not fit {str(task.dtype).removeprefix('torch.')}: its values are not finite there "
            f"(largest finite value {largest:g}); use smaller weights or a type with a wider range"
        )
    return result


def _model_cuts(plan: Plan, task: TensorTask) -> list[Cut] | None:
    """The cuts of a trim over the whole model; None where the method trims each tensor for itself."""
    if task.values is None or task.values.get("scope") != "model":
        return None
    densities = task.values["density"]
    assert isinstance(densities, tuple)  # per-parent parameters are tuples
    return [
        model_cuts(plan.family, index, density)[task.name]
        for index, density in zip(task.inputs, densities, strict=True)
    ]


def model_cuts(family: Family, parent: int, density: float) -> dict[str, Cut]:
    """Return, for each tensor, the cut that keeps the top ⌊density·q⌋ of all q entries of a parent's task vector.

    Exact, and never holds more than one tensor: the bits of non-negative floats sort as integers, so two counting
    passes (upper and lower 16 bits) find the threshold, and a third shares out the entries equal to it in the order of
    the tensors. Kept for the next candidate: the first pass for any density, the cuts for the same density.
    """
    key = ("cuts", parent, density)
    if key not in family.prepared:
        upper = family.prepared.setdefault(("upper bits", parent), None)
        if upper is None:
            upper = torch.zeros(1 << 15, dtype=torch.int64)
            for name in _merged_names(family):
                upper += torch.bincount(_bits(family, parent, name) >> 16, minlength=1 << 15)
            family.prepared["upper bits", parent] = upper
        family.prepared[key] = _cuts(family, parent, math.floor(density * int(upper.sum())), upper)
    cuts: dict[str, Cut] = family.prepared[key]
    return cuts


def _cuts(family: Family, parent: int, k: int, upper: torch.Tensor) -> dict[str, Cut]:
    names = _merged_names(family)
    if k == 0:
        return dict.fromkeys(names, Cut(math.inf, 0))
    high, left = _find(upper, k)
    lower = torch.zeros(1 << 16, dtype=torch.int64)
    for name in names:
        bits = _bits(family, parent, name)
        lower += torch.bincount(bits[bits >> 16 == high] & 0xFFFF, minlength=1 << 16)
    low, left = _find(lower, left)
    threshold = high << 16 | low
    value = torch.tensor(threshold, dtype=torch.int32).view(torch.float32).item()
    cuts = {}
    for name in names:
        n_equal = min(left, int((_bits(family, parent, name) == threshold).sum())) if left else 0
        cuts[name] = Cut(value, n_equal)
        left -= n_equal
    return cuts


def _find(counts: torch.Tensor, k: int) -> tuple[int, int]:
    """Return the bin that holds the k-th largest entry, and how many of that bin are among the k largest."""
    from_top = counts.flip(0).cumsum(0)
    position = int(torch.searchsorted(from_top, k))
    above = int(from_top[position - 1]) if position else 0
    return counts.numel() - 1 - position, k - above


def _bits(family: Family, parent: int, name: str) -> torch.Tensor:
    tau = family.load(parent, name).float() - family.load(BASE, name).float()
    return tau.abs().reshape(-1).view(torch.int32)


def _merged_names(family: Family) -> list[str]:
    return [
        tensor.name
        for tensor in family.tensors
        if tensor.info.dtype.is_floating_point and not tensor.place.buffer
    ]  # fmt: skip
