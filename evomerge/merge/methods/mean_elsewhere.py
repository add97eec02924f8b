"""What methods on matrices do with all other tensors: θ0 + α Σ w_i τ_i / Σ w_i, by the fused kernels.

Which tensors are such plain sums is noted in the values of a tensor, under a name that no parameter has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.base import BASE, Inputs, Values, nonzero, task_vectors
from evomerge.merge.methods.linear import SMALLEST_SUM, shares
from evomerge.merge.methods.task_arithmetic import add_task_vectors

if TYPE_CHECKING:
    import torch

_PLAIN = "plain sum"


def plain(values: Values) -> bool:
    """Return whether a tensor is just θ0 + α Σ w_i τ_i."""
    return bool(values.get(_PLAIN))


def as_sum(values: Values) -> Values:
    """Return the values that say so."""
    return {**values, _PLAIN: True}


def as_mean(values: Values) -> Values:
    """Return the values of a plain sum with the weights divided by their sum."""
    weight = cast("tuple[float, ...]", values["weight"])
    return as_sum({**values, "weight": shares(weight, normalize=True)} if any(weight) else values)


def mean_problems(values: Values) -> list[str]:
    """Return a sentence if the weights have no mean."""
    weight = cast("tuple[float, ...]", values["weight"])
    if any(weight) and abs(sum(weight)) < SMALLEST_SUM:
        listed = ", ".join(f"{w:g}" for w in weight)
        return [f"the weights ({listed}) sum to 0, but norms and biases get the weighted mean; change one weight"]
    return []


def sum_one_input(values: Values) -> int | None:
    """Return the base if α or all weights are 0; the parent, of a plain sum, that is added whole."""
    active = nonzero(values, "weight")
    if not active or values["alpha"] == 0.0:
        return BASE
    whole = cast("tuple[float, ...]", values["weight"])[active[0]] * cast(float, values["alpha"]) == 1.0
    return active[0] if plain(values) and len(active) == 1 and whole else None


def sum_program(inputs: Inputs) -> Program | None:
    """Return the program of a plain sum; None for matrices."""
    if not plain(inputs.values):
        return None
    return Program(weight=inputs.numbers("weight"), scale=inputs.number("alpha"))


def merge_sum(inputs: Inputs) -> torch.Tensor:
    """Return a plain sum."""
    return add_task_vectors(
        inputs.origin, task_vectors(inputs), weight=inputs.numbers("weight"), scale=inputs.number("alpha")
    )
