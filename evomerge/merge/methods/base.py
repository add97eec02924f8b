"""What a merge method is: its specification, and one plain function from fp32 tensors to an fp32 tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch

from evomerge.method import MethodSpec, Parameter

Values: TypeAlias = Mapping[str, "float | bool | str | tuple[float, ...]"]
"""The parameters of one tensor: a tuple (one number per parent, in order) where the parameter is per parent."""

BASE = -1
"""Stands for the base where an input is named by its index among the parents."""


@dataclass(frozen=True)
class Cut:
    """Which entries of a task vector a trim keeps.

    Every |τ| above `threshold`, and the first `n_equal` (lowest flat index) of those equal to it.
    """

    threshold: float
    n_equal: int


@dataclass(frozen=True)
class Inputs:
    """What a method gets for one tensor. It must not change the tensors: they may be memory-mapped files.

    Attributes:
        base: fp32; None for methods that need no base.
        parents: fp32, each of the base's shape; only the parents that have an effect.
        values: parameters; per-parent tuples are in the order of `parents`.
        seeds: one per parent, for the random mask of this tensor.
        cuts: one per parent where a trim is over the whole model; else None.
    """

    base: torch.Tensor | None
    parents: Sequence[torch.Tensor]
    values: Values
    seeds: Sequence[int] = ()
    cuts: Sequence[Cut] | None = None

    def number(self, name: str) -> float:
        """Return a parameter that is one number."""
        return cast(float, self.values[name])

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return a parameter that is one number per parent."""
        return cast("tuple[float, ...]", self.values[name])

    def word(self, name: str) -> str:
        """Return a parameter that is a word."""
        return cast(str, self.values[name])

    @property
    def origin(self) -> torch.Tensor:
        """The base, for methods that need one."""
        assert self.base is not None  # the plan refuses a recipe without the base that its method needs
        return self.base


@dataclass(frozen=True)
class Method:
    """A merge method.

    Attributes:
        merge: the arithmetic, for one tensor.
        active: indices of the parents that have an effect under these values; the others are not even read.
        one_input: index of the input (`BASE` for the base) that the result equals exactly, or None. Such a tensor is
            copied bit for bit; fp32 arithmetic would not always give it back: θ0 + (θ − θ0) rounds.
        problems: what is wrong with these values, one sentence each, for example a negative density.
        order_free: whether the order of the parents has no meaning. The parents are then taken in the order of their
            names, so that listing them in another order gives the same bytes.
    """

    spec: MethodSpec
    merge: Callable[[Inputs], torch.Tensor]
    active: Callable[[Values], tuple[int, ...]]
    one_input: Callable[[Values], int | None]
    problems: Callable[[Values], list[str]]
    order_free: bool = True


def nonzero(values: Values, *names: str) -> tuple[int, ...]:
    """Indices of the parents for which each of the per-parent parameters `names` is not 0."""
    columns = [cast("tuple[float, ...]", values[name]) for name in names]
    return tuple(i for i, row in enumerate(zip(*columns, strict=True)) if all(row))


def out_of_range(values: Values, name: str, low: float, high: float) -> list[str]:
    """One sentence for each number of parameter `name` that is not in [low, high]."""
    value = values[name]
    numbers = value if isinstance(value, tuple) else (cast(float, value),)
    return [
        f"{name} must be between {low:g} and {high:g}, but came {number:g}"
        for number in numbers
        if not low <= number <= high
    ]


def task_vectors(inputs: Inputs) -> list[torch.Tensor]:
    """τ_i = θ_i − θ0, new tensors that may be changed in place."""
    return [parent - inputs.origin for parent in inputs.parents]


WEIGHT = Parameter("weight", 1.0, 0.0, 1.5, per_parent=True, doc="w_i, how much of each parent's task vector is added")
SUM_LAMBDA = Parameter(
    "lambda", 1.0, 0.0, 2.0, gene=False, doc="λ, scales the summed task vectors; a search moves the weights instead"
)
MEAN_LAMBDA = Parameter("lambda", 1.0, 0.5, 2.5, doc="λ, scales the merged task vector")
ELECTION = Parameter(
    "election",
    "sum",
    choices=("sum", "count"),
    gene=False,
    doc="the sign of an entry: of the weighted sum, or of the majority of parents; a draw is +",
)
NORMALIZE_MEAN = Parameter(
    "normalize", True, gene=False, doc="true: mean of the entries that agree (the paper); false: their weighted sum"
)
