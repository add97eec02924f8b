"""DELLA: drop entries at random, the smaller ones more often (MAGPRUNE), then elect and average.

https://arxiv.org/abs/2406.11617. Entries of each row are ranked by |τ|, ρ = 0 … n − 1; one is kept with the chance
q = (density − ε) + 2ε·ρ/(n − 1), and divided by q, so that E[τ̂] = τ. The authors' parameter is the window, 2ε. With
ε = 0 this is DARE, with the same masks.
"""

from __future__ import annotations

from evomerge.merge.methods.dare import RESCALE, summed
from evomerge.merge.methods.parameters import ELECTION, NORMALIZE_MEAN, NORMALIZE_SUM, WEIGHT
from evomerge.merge.methods.pipeline.build import build
from evomerge.merge.methods.ties import elected
from evomerge.recipe.method import MethodSpec, Parameter

PAPER = "https://arxiv.org/abs/2406.11617"

_DENSITY = Parameter("density", 0.7, 0.1, 0.95, per_parent=True, doc="the mean chance that an entry is kept")
_EPSILON = Parameter(
    "epsilon",
    0.07,
    0.0,
    0.3,
    per_parent=True,
    doc=(
        "ε: the chance goes from density − ε for the smallest |τ| of a row to density + ε; cut where it would "
        "leave [0, 1]"
    ),
)
_LAMBDA = Parameter("lambda", 1.1, 0.5, 1.5, scope="global", doc="λ, scales the merged task vector")

_NOTES = (
    "A vector is one row, and in a row of one entry the chance is the density (mergekit fails there). An ε above "
    "min(density, 1 − density) is cut to it (mergekit refuses it). Of equal entries the first counts as the larger. "
    "Masks are nested as DARE's, and are DARE's with ε = 0. The authors' window is 2ε; mergekit's defaults are ε "
    "0.15 and λ 1, and it rescales by the l1 norm of the tensor (rescale: l1, which costs several passes a "
    "candidate; otherwise one). Ranks are found once per search and take 2 bytes an entry and parent in the cache."
)

METHOD = build(
    MethodSpec(
        name="della",
        summary="drop the smaller entries of each row more often, elect a sign per entry, average those that agree",
        paper=PAPER,
        topic="sparse task vectors",
        parameters=(WEIGHT, _DENSITY, _EPSILON, _LAMBDA, ELECTION, NORMALIZE_MEAN, RESCALE),
        share=WEIGHT.name,
        formula=(
            "θ0 + λ Σ_A w_i τ̂_i / Σ_A w_i; τ̂_i = m_i ⊙ τ_i / q_i, m_i ~ Bernoulli(q_i), q_i rising with the "
            "rank of |τ_i|"
        ),
        notes=f"A draw elects +; negative weights are refused. {_NOTES}",
    ),
    lambda values: elected(values, "magprune"),
)

LINEAR = build(
    MethodSpec(
        name="della_linear",
        summary="sum of task vectors, the smaller entries of whose rows are dropped more often",
        paper=PAPER,
        topic="sparse task vectors",
        parameters=(WEIGHT, _DENSITY, _EPSILON, _LAMBDA, NORMALIZE_SUM, RESCALE),
        share=WEIGHT.name,
        share_with={NORMALIZE_SUM.name: False},
        formula="θ0 + λ Σ w_i τ̂_i; τ̂_i as in della",
        notes=_NOTES,
    ),
    lambda values: summed(values, "magprune"),
)
