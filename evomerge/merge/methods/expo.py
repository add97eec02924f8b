"""ExPO: weak-to-strong extrapolation, θ = θ1 + α(θ1 − θ0). https://arxiv.org/abs/2404.16792.

A model that was aligned a little (θ1) is moved further along the way that its alignment took from the checkpoint before
it (θ0, the base of the recipe). With τ = θ1 − θ0 that is θ0 + (1 + α)τ; a negative α goes back towards the base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.base import BASE, Inputs, Method, Values, task_vectors
from evomerge.merge.methods.task_arithmetic import add_task_vectors
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch


def extrapolate(delta: torch.Tensor, *, alpha: float) -> torch.Tensor:
    """Return (1 + α)Δ as a new tensor: a difference from the base, of one model or of a merge, taken further.

    Args:
        delta: Δ, of any shape.
        alpha: α; 0 changes nothing, −1 goes back to the base.
    """
    return delta * (1.0 + alpha)


def _merge(inputs: Inputs) -> torch.Tensor:
    (tau,) = task_vectors(inputs)
    further = extrapolate(tau, alpha=inputs.number("alpha"))
    return add_task_vectors(inputs.origin, [further], weight=[1.0], scale=1.0)


def _one_input(values: Values) -> int | None:
    return {0.0: 0, -1.0: BASE}.get(cast(float, values["alpha"]))


METHOD = Method(
    spec=MethodSpec(
        name="expo",
        summary="a model moved further along its way from the base",
        paper="https://arxiv.org/abs/2404.16792",
        topic="one model",
        parameters=(
            Parameter("alpha", 0.3, 0.0, 1.0, doc="α, how much further; below 0: back towards the base (−1: the base)"),
        ),
        n_parents=(1, 1),
        formula="θ = θ1 + α(θ1 − θ0) = θ0 + (1 + α)τ_1",
        notes="The base is the weaker checkpoint (before alignment), the one parent the stronger one. The same as task "
        "arithmetic with λ = 1 + α, so a recipe needs only one of the two. The paper's α is one number for the model; "
        "groups may have their own. Costs as much as task arithmetic with one parent.",
    ),
    merge=_merge,
    program=lambda inputs: Program(weight=(1.0 + inputs.number("alpha"),)),
    active=lambda values: (0,),
    one_input=_one_input,
    shows_bad=True,
    problems=lambda values: [],
)
