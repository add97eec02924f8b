"""TSV-Merge: each parent gets an equal share of directions, which are made orthogonal. https://arxiv.org/abs/2412.00081.

Of each matrix: τ_i = U_i Σ_i V_iᵀ is cut to its top k = ⌊r/N⌋; all U_i side by side, and all V_i, are replaced by
their polar factors U⊥ and V⊥; Δ = U⊥ Σ V⊥ᵀ with the singular values of all parents. In blocks that is Δ = Σ_i M_i with
M_i = U⊥_i Σ_i V⊥_iᵀ, and here Δ = Σ w_i M_i: the M_i do not depend on the weights, so a search finds them once.

Polar factors leave out directions whose size counts as 0 (parents that are alike), where the authors' code turns
arbitrary ones into new directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from evomerge.merge.methods.base import Inputs, Method, ParentTensors, Values, nonzero
from evomerge.merge.methods.matrices import (
    exact_task_vectors,
    holds_matrices,
    over_matrices,
    polar,
    smaller_side,
    thin_svd,
)
from evomerge.merge.methods.mean_elsewhere import (
    as_mean,
    as_sum,
    mean_problems,
    merge_sum,
    plain,
    sum_one_input,
    sum_program,
)
from evomerge.merge.methods.parameters import WEIGHT
from evomerge.merge.methods.task_arithmetic import add_task_vectors
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch


def decorrelated(task: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return M_i = U⊥_i Σ_i V⊥_iᵀ of each of N matrices; call it within `one_thread`.

    Args:
        task: τ_i, float64, each `(m, n)` with N ≤ min(m, n).
    """
    import torch

    k = min(task[0].shape) // len(task)
    parts = [thin_svd(tau).top(k) for tau in task]
    ranks = [part.rank for part in parts]
    if not any(ranks):
        return [tau * 0.0 for tau in task]
    us = polar(torch.cat([part.u for part in parts], dim=1)).split(ranks, dim=1)
    vts = polar(torch.cat([part.vt for part in parts])).split(ranks)
    return [(u * part.sigma) @ vt for u, part, vt in zip(us, parts, vts, strict=True)]


def _values_at(values: Values, at: TensorAt) -> Values:
    n_parents = len(cast("tuple[float, ...]", values["weight"]))
    if not holds_matrices(at) or smaller_side(at) < n_parents:
        return as_mean(values)
    return as_sum(values) if n_parents == 1 else values


def _active(values: Values) -> tuple[int, ...]:
    # A parent of weight 0 keeps its share of the directions, so that a search meets no jump there.
    weight = cast("tuple[float, ...]", values["weight"])
    return nonzero(values, "weight") if plain(values) or not any(weight) else tuple(range(len(weight)))


def _parts(inputs: Inputs) -> list[torch.Tensor]:
    """Return the M_i on the CPU."""
    return over_matrices(decorrelated, inputs.place, exact_task_vectors(inputs))


def _prepare(inputs: Inputs, tensors: ParentTensors) -> list[torch.Tensor] | None:
    """Return the M_i, which hold for every w."""
    if plain(inputs.values):
        return None
    return tensors.once(
        ("tsv_m", tensors.name),
        lambda: _parts(inputs),
        lambda parts: 4 * sum(part.numel() for part in parts),
        what="the decorrelated task matrices",
    )


def _tsv_m(inputs: Inputs) -> torch.Tensor:
    if plain(inputs.values):
        return merge_sum(inputs)
    parts = [part.to(inputs.origin.device) for part in inputs.prepared or _parts(inputs)]
    return add_task_vectors(inputs.origin, parts, weight=inputs.numbers("weight"), scale=inputs.number("alpha"))


METHOD = Method(
    spec=MethodSpec(
        name="tsv_m",
        summary="an equal share of each task vector's singular directions, made orthogonal and summed",
        paper="https://arxiv.org/abs/2412.00081",
        topic="subspaces",
        parameters=(
            WEIGHT,
            Parameter("alpha", 1.0, 0.5, 2.0, scope="global", gene=False, doc="α, scales the merged delta"),
        ),
        formula="θ0 + α Σ w_i U⊥_i Σ_i V⊥_iᵀ with the top ⌊r/N⌋ of each τ_i, and polar factors of all U_i and all V_i "
        "side by side; of each matrix",
        notes="The authors' code has no weights (all are 1). Embeddings, norms, biases, and matrices with fewer rows "
        "or columns than there are parents, get θ0 + α Σ w_i τ_i / Σ w_i. A parent of weight 0 keeps its share of the "
        "directions: leave it out of the recipe instead. N + 2 decompositions a matrix and search, whatever the "
        "weights (each about 0.5 s of a core at 1024 × 1024, eight times that for twice the sides); the N parts are "
        "kept (4·N bytes an entry), and a candidate costs one pass over them. One parent is its own result.",
    ),
    merge=_tsv_m,
    program=sum_program,
    prepare=_prepare,
    values_at=_values_at,
    active=_active,
    one_input=sum_one_input,
    problems=mean_problems,
)
