"""Model Breadcrumbs: drop the largest and the smallest entries of each task vector. https://arxiv.org/abs/2312.06795.

Of each row, the ⌊γn⌋ largest |τ| are removed as outliers, and of the rest the ⌊density·n⌋ largest are kept. Then comes
the weighted sum (the paper), or TIES' election and mean (`breadcrumbs_ties`).
"""

from __future__ import annotations

from evomerge.merge.methods.dare import summed
from evomerge.merge.methods.parameters import ELECTION, MEAN_LAMBDA, NORMALIZE_MEAN, NORMALIZE_SUM, WEIGHT
from evomerge.merge.methods.pipeline.build import build
from evomerge.merge.methods.ties import MATCH_L1, elected
from evomerge.recipe.method import MethodSpec, Parameter

PAPER = "https://arxiv.org/abs/2312.06795"

GAMMA = Parameter(
    "gamma", 0.01, 0.0, 0.1, per_parent=True, doc="γ, share of entries removed as outliers, the largest |τ|"
)

_DENSITY = Parameter(
    "density", 0.15, 0.05, 0.95, per_parent=True, doc="β, share of entries kept, the largest |τ| but for the outliers"
)
_LAMBDA = Parameter("lambda", 0.35, 0.1, 1.0, scope="global", doc="λ, scales the summed task vectors")
_SCOPE = Parameter(
    "scope",
    "row",
    choices=("row", "tensor"),
    gene=False,
    doc="rank |τ| within each row of the last axis (the authors), or within each tensor (mergekit)",
)

_NOTES = (
    "Of n entries exactly ⌊γn⌋ are removed, so none where γn < 1 (mergekit then drops the whole task vector), and "
    "⌊density·n⌋ of the others are kept, or all of them if they are fewer (mergekit then removes fewer outliers). Of "
    "equal entries the first goes first. A vector is one row. A candidate costs one pass; once per search, entries "
    "are ranked: within rows that takes 2 bytes an entry and parent in the cache, within tensors some kilobytes. "
    "rescale: l1 costs several passes a candidate."
)

SUM = build(
    MethodSpec(
        name="breadcrumbs",
        summary="sum of task vectors without their largest and their smallest entries",
        paper=PAPER,
        topic="sparse task vectors",
        parameters=(WEIGHT, _DENSITY, GAMMA, _LAMBDA, NORMALIZE_SUM, _SCOPE, MATCH_L1),
        share=WEIGHT.name,
        share_with={NORMALIZE_SUM.name: False},
        formula="θ0 + λ Σ w_i τ̂_i; τ̂_i: without the ⌊γn⌋ largest |τ_i|, of the rest the ⌊density·n⌋ largest",
        notes=_NOTES,
    ),
    lambda values: summed(values, "outliers"),
)

TIES = build(
    MethodSpec(
        name="breadcrumbs_ties",
        summary="sign election and disjoint mean on task vectors without their largest and their smallest entries",
        paper=PAPER,
        topic="sparse task vectors",
        parameters=(WEIGHT, _DENSITY, GAMMA, MEAN_LAMBDA, ELECTION, NORMALIZE_MEAN, _SCOPE, MATCH_L1),
        share=WEIGHT.name,
        formula="θ0 + λ Σ_A w_i τ̂_i / Σ_A w_i; τ̂_i as in breadcrumbs; A: those with the elected sign",
        notes=f"A draw elects +; negative weights are refused. mergekit's default is normalize: false. {_NOTES}",
    ),
    lambda values: elected(values, "outliers"),
)
