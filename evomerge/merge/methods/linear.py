"""Linear averaging, θ = Σ w_i θ_i / Σ w_i: model soups, https://arxiv.org/abs/2203.05482, with weights.

A base takes no part in the average; where a recipe names one, it only lends its configuration and tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.base import Method, Values, nonzero, weighted_sum
from evomerge.merge.methods.parameters import SHARE
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

SMALLEST_SUM = 1e-8
"""Weights whose sum is closer to 0 than this cannot be normalised."""


def linear(parents: Sequence[torch.Tensor], *, weight: Sequence[float], normalize: bool) -> torch.Tensor:
    """Return Σ w_i θ_i, divided by Σ w_i if `normalize`."""
    return weighted_sum(parents, shares(weight, normalize=normalize))


def shares(weight: Sequence[float], *, normalize: bool) -> tuple[float, ...]:
    """Return the weights, divided by their sum if `normalize`."""
    return tuple(w / sum(weight) for w in weight) if normalize else tuple(weight)


def _active(values: Values) -> tuple[int, ...]:
    weight = cast("tuple[float, ...]", values["weight"])
    # Weights that are all 0, without normalisation, make a model of zeros, which still needs a tensor for its shape.
    return nonzero(values, "weight") or tuple(range(len(weight)))


def _one_input(values: Values) -> int | None:
    active = nonzero(values, "weight")
    weight = cast("tuple[float, ...]", values["weight"])
    return active[0] if len(active) == 1 and (values["normalize"] or weight[active[0]] == 1.0) else None


def _problems(values: Values) -> list[str]:
    weight = cast("tuple[float, ...]", values["weight"])
    if values["normalize"] and abs(sum(weight)) < SMALLEST_SUM:
        listed = ", ".join(f"{w:g}" for w in weight)
        return [f"the weights ({listed}) sum to 0 and cannot be normalised; change one or set normalize: false"]
    return []


METHOD = Method(
    spec=MethodSpec(
        name="linear",
        summary="weighted average of the parents",
        paper="https://arxiv.org/abs/2203.05482",
        topic="averages",
        parameters=(
            SHARE,
            Parameter("normalize", True, gene=False, doc="divide by the sum of the weights"),
        ),
        needs_base=False,
        share="weight",
        of_equals={"normalize": True},  # a sum of equal tensors that is not divided by its weights is another one
        formula="θ = Σ w_i θ_i / Σ w_i",
        notes="Equal weights, the default, make the uniform soup of the paper; its greedy soup is a strategy "
        "(`strategy.name: greedy_soup`). A base takes no part, but lends its configuration and tokenizer. Weights that "
        "sum to 0 are refused unless normalize is false. One pass of a fused kernel.",
    ),
    merge=lambda inputs: linear(
        inputs.parents, weight=inputs.numbers("weight"), normalize=bool(inputs.values["normalize"])
    ),
    program=lambda inputs: Program(weight=shares(inputs.numbers("weight"), normalize=bool(inputs.values["normalize"]))),
    active=_active,
    one_input=_one_input,
    shows_bad=True,
    problems=_problems,
)
