"""Task arithmetic, θ = θ0 + λ Σ w_i τ_i with τ_i = θ_i − θ0: https://arxiv.org/abs/2212.04089.

The paper has one λ for all parents and no w_i (all are 1); a negative weight forgets a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from evomerge.merge.methods.base import Values, weighted_sum
from evomerge.merge.methods.parameters import NORMALIZE_SUM, SUM_LAMBDA, WEIGHT
from evomerge.merge.methods.pipeline.build import build
from evomerge.merge.methods.pipeline.post import added
from evomerge.recipe.method import MethodSpec

if TYPE_CHECKING:
    import torch


def add_task_vectors(
    base: torch.Tensor, task_vectors: Sequence[torch.Tensor], *, weight: Sequence[float], scale: float
) -> torch.Tensor:
    """Return θ0 + λ Σ w_i τ_i, with `scale` for λ."""
    return added(base, weighted_sum(task_vectors, weight), scale)


def _slots(values: Values) -> Values:
    return {**values, "aggregate": "mean" if values["normalize"] else "sum"}


# Task vectors are not cached: in fp32 (a narrower type would not be exact) each has twice the bytes of a 16-bit parent,
# and reading the base, which all parents share, costs only one more tensor.
METHOD = replace(
    build(
        MethodSpec(
            name="task_arithmetic",
            summary="base plus the weighted sum of task vectors",
            paper="https://arxiv.org/abs/2212.04089",
            topic="task vectors",
            parameters=(WEIGHT, SUM_LAMBDA, NORMALIZE_SUM),
            share=WEIGHT.name,
            share_with={NORMALIZE_SUM.name: False},
            formula="θ0 + λ Σ w_i τ_i",
            notes=(
                "A negative weight subtracts what a parent learned. With one parent and w·λ = 1 it is copied bit for "
                "bit; with λ = 0 or weights that are all 0, the base. The paper has one λ, found at 0.3 for eight "
                "tasks, and no weights. A candidate costs one pass."
            ),
        ),
        _slots,
        without_torch=True,
    ),
    shows_bad=True,
)
