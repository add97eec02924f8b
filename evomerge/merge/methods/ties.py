"""TIES: trim, elect sign, disjoint mean. https://arxiv.org/abs/2306.01708.

Differences from the authors' code: exactly k = ⌊density·q⌋ of q entries are kept (theirs keeps k + 1), an entry whose
weighted sum is exactly 0 elects + (theirs elects the majority sign of the model), and the weights w_i are ours. They
trim a whole model's task vector at once (`scope: model` here); the default is per tensor, which needs no earlier pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evomerge.merge.methods.base import Values
from evomerge.merge.methods.parameters import ELECTION, MEAN_LAMBDA, NORMALIZE_MEAN, WEIGHT
from evomerge.merge.methods.pipeline.aggregate import disjoint_mean, summed
from evomerge.merge.methods.pipeline.build import build
from evomerge.merge.methods.pipeline.consensus import agreeing
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

MATCH_L1 = Parameter(
    "rescale",
    "none",
    choices=("none", "l1"),
    gene=False,
    doc="none: as the paper; l1: what is kept gets the l1 norm of the whole τ_i (mergekit's `rescale: true`)",
)


def elect_and_merge(
    trimmed: Sequence[torch.Tensor], *, weight: Sequence[float], election: str, normalize: bool
) -> torch.Tensor:
    """Return Δ: for each entry, the weighted mean (or sum) of the τ̂_i with the elected sign.

    Args:
        trimmed: τ̂_i.
        weight: w_i > 0.
        election: "sum" or "count"; see `evomerge.merge.methods.pipeline.consensus`.
        normalize: whether to divide by the weights of the parents that agree.
    """
    counts = agreeing(trimmed, weight=weight, consensus=election)
    return disjoint_mean(trimmed, weight, counts) if normalize else summed(trimmed, weight, counts)


def elected(values: Values, sparsify: str) -> Values:
    """Return the slots of a method that sparsifies, elects signs and averages what agrees."""
    how = "disjoint_mean" if values["normalize"] else "sum"
    return {**values, "sparsify": sparsify, "consensus": values["election"], "aggregate": how}


METHOD = build(
    MethodSpec(
        name="ties",
        summary="trim task vectors, elect a sign per entry, average those that agree",
        paper="https://arxiv.org/abs/2306.01708",
        topic="sparse task vectors",
        parameters=(
            WEIGHT,
            Parameter("density", 0.2, 0.05, 1.0, per_parent=True, doc="share of entries kept, the largest |τ|"),
            MEAN_LAMBDA,
            ELECTION,
            NORMALIZE_MEAN,
            Parameter(
                "scope",
                "tensor",
                choices=("tensor", "model"),
                gene=False,
                doc="rank |τ| within each tensor, or over the whole model (the paper)",
            ),
            MATCH_L1,
        ),
        share=WEIGHT.name,
        formula="θ0 + λ Σ_A w_i τ̂_i / Σ_A w_i; τ̂_i: the ⌊density·q⌋ largest |τ_i|; A: those with the elected sign",
        notes=(
            "Exactly ⌊density·q⌋ of q entries are kept, of equal ones the first; with 0 of them a parent takes no "
            "part. A draw elects +. Negative weights are refused. The authors' code keeps one entry more, and trims "
            "over the whole model (scope: model). mergekit fails where nothing is kept; its `normalize` is ours. A "
            "candidate costs one pass; the tables of quantiles are made once per search. With rescale: l1 a "
            "candidate costs several passes."
        ),
    ),
    lambda values: elected(values, "magnitude"),
    without_torch=True,
)
