"""Static Twin-Merging: a shared model, and of each parent the low-rank part that it lacks. https://arxiv.org/abs/2406.15479.

θ* = θ0 + Σ γ_i τ_i is what the parents share; SVD_k(θ_i − θ*), the k = ⌊ρ·r⌋ largest singular values of each matrix, is
what one parent has of its own. The paper adds these with weights that a router finds for each input; here w_i are
numbers for all inputs, so that the result is one model. Tensors that are no matrices are not cut.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from evomerge.merge.methods.base import (
    Inputs,
    Method,
    ParentTensors,
    Values,
    nonzero,
    out_of_range,
    task_vectors,
    weighted_sum,
)
from evomerge.merge.methods.matrices import (
    LastFound,
    Svd,
    exact_task_vectors,
    holds_matrices,
    kept_svds,
    low_rank_sum,
    smaller_side,
)
from evomerge.merge.methods.mean_elsewhere import as_sum, merge_sum, plain, sum_one_input, sum_program
from evomerge.merge.methods.task_arithmetic import add_task_vectors
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch


def _rank(values: Values, at: TensorAt) -> int:
    """Return k, how many singular values of each matrix stay."""
    return math.floor(cast(float, values["rank"]) * smaller_side(at))


def _values_at(values: Values, at: TensorAt) -> Values:
    """Return the values for one tensor; without a cut, or with nothing left by it, it is a sum of task vectors.

    θ* + Σ w_i (θ_i − θ*) = θ0 + Σ (γ_i (1 − Σ w) + w_i) τ_i.
    """
    weight, gamma = (cast("tuple[float, ...]", values[name]) for name in ("weight", "gamma"))
    values = {**values, "alpha": 1.0}
    if not holds_matrices(at) or values["rank"] == 1.0:
        rest = 1.0 - sum(weight)
        return as_sum({**values, "weight": tuple(g * rest + w for g, w in zip(gamma, weight, strict=True))})
    return values if any(weight) and _rank(values, at) else as_sum({**values, "weight": gamma})


def _active(values: Values) -> tuple[int, ...]:
    own = nonzero(values, "weight")
    return own if plain(values) else tuple(sorted({*own, *nonzero(values, "gamma")}))


def _own(inputs: Inputs) -> list[list[Svd]]:
    """Return the decompositions of each θ_i − θ*."""
    task = exact_task_vectors(inputs)
    shared = weighted_sum(task, inputs.numbers("gamma"))
    return [kept_svds(tau - shared, inputs.place) for tau in task]


def _prepare(inputs: Inputs, tensors: ParentTensors) -> list[list[Svd]] | None:
    """Return the decompositions, which hold for every w and ρ; another γ needs others."""
    if plain(inputs.values):
        return None
    at = inputs.place
    entries = math.prod(at.shape[:-2]) * smaller_side(at) * (sum(at.shape[-2:]) + 1)
    last: LastFound[list[list[Svd]]] = tensors.once(
        ("twin", tensors.name),
        LastFound,
        lambda _: 4 * entries * len(inputs.parents),
        what="the parents' own directions",
    )
    return last.find(inputs.numbers("gamma"), lambda: _own(inputs))


def _twin(inputs: Inputs) -> torch.Tensor:
    if plain(inputs.values):
        return merge_sum(inputs)
    at, base = inputs.place, inputs.origin
    found = _own(inputs) if inputs.prepared is None else inputs.prepared
    shared = add_task_vectors(base, task_vectors(inputs), weight=inputs.numbers("gamma"), scale=1.0)
    return shared.add_(low_rank_sum(found, inputs.numbers("weight"), _rank(inputs.values, at), at, base.device))


METHOD = Method(
    spec=MethodSpec(
        name="twin",
        summary="a sum of task vectors, and of each parent the low-rank part that it lacks",
        paper="https://arxiv.org/abs/2406.15479",
        topic="subspaces",
        parameters=(
            Parameter("weight", 0.5, 0.0, 1.0, per_parent=True, doc="w_i, how much of each parent's own part is added"),
            Parameter(
                "rank",
                0.1,
                0.01,
                1.0,
                log=True,
                matrices=True,
                doc="ρ, the share of singular values of that part that stay",
            ),
            Parameter(
                "gamma",
                0.3,
                0.0,
                1.0,
                per_parent=True,
                gene=False,
                doc="γ_i, each parent's share in the common model; another one needs new decompositions",
            ),
        ),
        formula="θ* + Σ w_i SVD_k(θ_i − θ*) with θ* = θ0 + Σ γ_i τ_i, k = ⌊ρ·r⌋; of each matrix",
        notes="The paper's weights come from a router, for each input; here they are fixed numbers, so the result is "
        "one ordinary model. Embeddings, norms and biases are not cut (ρ = 1). ρ = 1 with one weight of 1 and all "
        "others 0 is that parent; w = 0 is task arithmetic with γ. N decompositions a matrix and search (each about "
        "0.5 s of a core at 1024 × 1024, eight times that for twice the sides), as long as γ stays; they are kept for "
        "every w and ρ (8·N bytes an entry of a square matrix), and a candidate costs one product of matrices.",
    ),
    merge=_twin,
    program=sum_program,
    prepare=_prepare,
    values_at=_values_at,
    active=_active,
    one_input=sum_one_input,
    problems=lambda values: out_of_range(values, "rank", 0.0, 1.0),
)
