"""LASER: a matrix, or its task vector, is cut to its largest singular values. https://arxiv.org/abs/2312.13558.

W becomes its best approximation of rank k = ⌊ρ·r⌋, r the smaller side. The paper cuts single matrices of late layers,
which groups of a recipe can name. The authors' code draws a randomized decomposition; here it is exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from evomerge.merge.methods.base import BASE, Inputs, Method, ParentTensors, Values, out_of_range
from evomerge.merge.methods.matrices import (
    Svd,
    exact_task_vectors,
    holds_matrices,
    kept_svds,
)
from evomerge.merge.methods.parameters import OF, of_task_vectors
from evomerge.merge.methods.spectra import cut
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch


def _whole(inputs: Inputs) -> torch.Tensor:
    """Return what is decomposed: θ, or τ."""
    return exact_task_vectors(inputs)[0] if of_task_vectors(inputs.values) else inputs.parents[0]


def _prepare(inputs: Inputs, tensors: ParentTensors) -> list[Svd]:
    """Return the decomposition, which holds for every rank."""
    return tensors.once(
        ("svd", inputs.word("of"), tensors.name),
        lambda: kept_svds(_whole(inputs), inputs.place),
        lambda found: sum(svd.n_bytes for svd in found),
        what="the singular value decompositions of weights",
    )


def _laser(inputs: Inputs) -> torch.Tensor:
    found = inputs.prepared or kept_svds(_whole(inputs), inputs.place)
    made = cut(found, inputs.place, inputs.number("rank"), inputs.parents[0].device)
    return made + inputs.origin if of_task_vectors(inputs.values) else made


def _one_input(values: Values) -> int | None:
    rank = cast(float, values["rank"])
    if rank == 0.0 and of_task_vectors(values):
        return BASE
    return 0 if rank == 1.0 else None


METHOD = Method(
    spec=MethodSpec(
        name="laser",
        summary="one parent with matrices, or their task vectors, cut to their largest singular values",
        paper="https://arxiv.org/abs/2312.13558",
        topic="subspaces",
        parameters=(
            Parameter("rank", 1.0, 0.01, 1.0, log=True, matrices=True, doc="ρ, the share of singular values that stay"),
            replace(OF, doc="what is cut: the parent's weights, or its task vector, which is added to the base"),
        ),
        needs_base=False,
        n_parents=(1, 1),
        formula="the best approximation of θ_1 of rank ⌊ρ·r⌋, or θ0 + that of τ_1; of each matrix",
        notes="With ρ = 1, and where there is no matrix, the parent is copied, so set ρ in groups of layers, as the "
        "paper does. ρ = 0 with of: weights makes zeros. One decomposition a matrix and search (about 0.5 s of a core "
        "at 1024 × 1024, eight times that for twice the sides), kept for every ρ (8 bytes an entry of a square "
        "matrix); a candidate costs a product of matrices.",
    ),
    merge=_laser,
    prepare=_prepare,
    values_at=lambda values, at: values if holds_matrices(at) else {**values, "rank": 1.0},
    reads_base=of_task_vectors,
    active=lambda values: (0,),
    one_input=_one_input,
    problems=lambda values: out_of_range(values, "rank", 0.0, 1.0),
)
