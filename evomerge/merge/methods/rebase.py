"""Re-basing: what models learned from one base is put on another model. PortLLM, https://arxiv.org/abs/2410.10870.

θ = θ1 + Σ w_i τ_i over the other parents, with τ_i = θ_i − θ0: the first parent is the model that takes them up, for
example the next release of the base, or a fine-tune of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.base import Inputs, Method, first_and_weighted, task_vectors
from evomerge.merge.methods.parameters import WEIGHT
from evomerge.merge.methods.task_arithmetic import add_task_vectors
from evomerge.recipe.method import MethodSpec

if TYPE_CHECKING:
    import torch


def _weights(inputs: Inputs) -> tuple[float, ...]:
    """Return the weights with which θ1 + Σ w_i τ_i is θ0 + Σ w_i τ_i: the first one is 1."""
    return (1.0, *inputs.numbers("weight")[1:])


def _merge(inputs: Inputs) -> torch.Tensor:
    return add_task_vectors(inputs.origin, task_vectors(inputs), weight=_weights(inputs), scale=1.0)


METHOD = Method(
    spec=MethodSpec(
        name="rebase",
        summary="the first parent plus what the others learned from the base",
        paper="https://arxiv.org/abs/2410.10870",
        topic="task vectors",
        parameters=(
            replace(
                WEIGHT,
                for_first=False,
                doc="w_i, how much of each further parent's task vector is put on the first one",
            ),
        ),
        n_parents=(2, None),
        share="weight",
        formula="θ = θ1 + Σ w_i (θ_i − θ0), i ≥ 2",
        notes="The first parent is the model that takes the task vectors up; its weight has no meaning. Where no other "
        "parent has a weight, it is copied. All models must have the same shapes. The result's tokenizer and "
        "configuration are the base's unless the recipe names another lender (`tokenizer:`). PortLLM adds one delta "
        "with w = 1. Costs as much as task arithmetic.",
    ),
    merge=_merge,
    program=lambda inputs: Program(weight=_weights(inputs)),
    active=first_and_weighted,
    one_input=lambda values: 0 if first_and_weighted(values) == (0,) else None,
    shows_bad=True,
    problems=lambda values: [],
    order_free=False,
)
