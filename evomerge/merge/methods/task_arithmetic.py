"""Task arithmetic, θ = θ0 + λ Σ w_i τ_i with τ_i = θ_i − θ0: https://arxiv.org/abs/2212.04089.

The paper has one λ for all parents and no w_i (all are 1); a negative weight forgets a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.base import BASE, SUM_LAMBDA, WEIGHT, Method, Values, nonzero, task_vectors, weighted_sum
from evomerge.recipe.method import MethodSpec

if TYPE_CHECKING:
    import torch


def add_task_vectors(
    base: torch.Tensor, task_vectors: Sequence[torch.Tensor], *, weight: Sequence[float], scale: float
) -> torch.Tensor:
    """Return θ0 + λ Σ w_i τ_i, with `scale` for λ."""
    return weighted_sum(task_vectors, weight).mul_(scale).add_(base)


def sum_is_base(values: Values, active: Sequence[int]) -> bool:
    """Return whether the result is the base, because no task vector is left or λ is 0."""
    return not active or values["lambda"] == 0.0


def _one_input(values: Values) -> int | None:
    active = nonzero(values, "weight")
    if sum_is_base(values, active):
        return BASE
    weight = cast("tuple[float, ...]", values["weight"])
    return active[0] if len(active) == 1 and weight[active[0]] * cast(float, values["lambda"]) == 1.0 else None


METHOD = Method(
    spec=MethodSpec(
        name="task_arithmetic",
        summary="base plus the weighted sum of task vectors",
        paper="https://arxiv.org/abs/2212.04089",
        topic="task vectors",
        parameters=(WEIGHT, SUM_LAMBDA),
        share=WEIGHT.name,
    ),
    merge=lambda inputs: add_task_vectors(
        inputs.origin, task_vectors(inputs), weight=inputs.numbers("weight"), scale=inputs.number("lambda")
    ),
    # Task vectors are not cached: in fp32 (a narrower type would not be exact) each has twice the bytes of a 16-bit
    # parent, and reading the base, which all parents share, costs only one more tensor.
    program=lambda inputs: Program(weight=inputs.numbers("weight"), scale=inputs.number("lambda")),
    active=lambda values: nonzero(values, "weight"),
    one_input=_one_input,
    shows_bad=True,
    problems=lambda values: [],
)
