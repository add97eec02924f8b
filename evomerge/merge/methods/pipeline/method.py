"""The method `pipeline`: each slot is a parameter, per group of tensors, so that a search may choose among methods.

Task arithmetic, TIES, DARE, Breadcrumbs, DELLA, SCE and RAM are points of its space, and so are combinations that have
no name. A parameter sleeps where the chosen slots do not read it.
"""

from __future__ import annotations

from evomerge.merge.methods.base import Values
from evomerge.merge.methods.parameters import MEAN_LAMBDA, WEIGHT
from evomerge.merge.methods.pipeline.build import build
from evomerge.merge.methods.pipeline.post import post_at
from evomerge.recipe.method import MethodSpec, Parameter

_BY_DENSITY = ("magnitude", "random", "magprune", "outliers")


def _slots(values: Values) -> Values:
    return values


METHOD = build(
    MethodSpec(
        name="pipeline",
        summary="sparsify, weight, consensus, aggregate, post: methods on task vectors by their parts",
        paper="https://arxiv.org/abs/2306.01708",
        topic="sparse task vectors",
        parameters=(
            WEIGHT,
            Parameter(
                "sparsify",
                "none",
                choices=("none", *_BY_DENSITY, "variance"),
                doc=(
                    "which entries of a τ_i are kept: the largest, random ones (DARE, or DELLA's magprune), all "
                    "but the largest and smallest (Breadcrumbs), or those in which the parents vary most (SCE)"
                ),
            ),
            Parameter(
                "consensus",
                "none",
                choices=("none", "sum", "count"),
                doc="which of the kept entries count: all, or those with the sign of the weighted sum or the majority",
            ),
            Parameter(
                "aggregate",
                "sum",
                choices=("sum", "mean", "disjoint_mean", "sce", "ram"),
                doc="the sum, over Σ w_i, over the w_i of those that agree, that with SCE's weights, or RAM's",
            ),
            Parameter(
                "density",
                0.2,
                0.05,
                1.0,
                per_parent=True,
                when={"sparsify": _BY_DENSITY},
                doc="share of entries kept, or the mean chance to be kept",
            ),
            Parameter(
                "gamma",
                0.01,
                0.0,
                0.1,
                per_parent=True,
                when={"sparsify": ("outliers",)},
                doc="share of entries removed as outliers, the largest |τ|",
            ),
            Parameter(
                "epsilon",
                0.07,
                0.0,
                0.3,
                per_parent=True,
                when={"sparsify": ("magprune",)},
                doc="the chance goes from density − ε to density + ε with the rank of |τ| in its row",
            ),
            Parameter(
                "select_topk",
                0.1,
                0.05,
                1.0,
                when={"sparsify": ("variance",)},
                doc="share of the entries in which parents differ that is kept",
            ),
            Parameter(
                "scope",
                "tensor",
                choices=("tensor", "row", "model"),
                gene=False,
                when={"sparsify": ("magnitude", "outliers")},
                doc="within what |τ| is ranked",
            ),
            Parameter(
                "rescale",
                "inverse",
                choices=("inverse", "l1", "none"),
                gene=False,
                when={"sparsify": _BY_DENSITY},
                doc=(
                    "what is kept is divided by its chance to be kept (1 where nothing is left to chance), or "
                    "given the l1 norm of the whole τ_i"
                ),
            ),
            Parameter(
                "tolerance",
                1e-5,
                0.0,
                1e-3,
                gene=False,
                when={"aggregate": ("ram",)},
                doc="a parent changes an entry where |τ̂| is larger",
            ),
            Parameter(
                "r",
                0.1,
                0.0,
                1.0,
                when={"aggregate": ("ram",)},
                doc="entries that one parent alone changes are multiplied by 1 + r · min(ρ_i, α); 0: RAM without +",
            ),
            Parameter(
                "alpha",
                0.2,
                0.0,
                1.0,
                when={"aggregate": ("ram",)},
                doc="the most that ρ_i, shared over unique, counts",
            ),
            Parameter(
                "post",
                "none",
                choices=("none", "tall_mask", "iso", "laser"),
                doc=(
                    "what is done to the merged Δ: nothing, only entries that serve several tasks stay, singular "
                    "values are made even, or cut to the largest"
                ),
            ),
            Parameter(
                "threshold",
                0.4,
                0.1,
                1.0,
                when={"post": ("tall_mask",)},
                doc="an entry serves a task where |τ_i| is above this times |Δ − τ_i|",
            ),
            Parameter(
                "k", 2, 0, 2, integer=True, when={"post": ("tall_mask",)}, doc="how many tasks an entry must serve"
            ),
            Parameter(
                "beta",
                1.0,
                0.0,
                1.0,
                when={"post": ("iso",)},
                matrices=True,
                doc="β, how even the singular values become: (1 − β) Σ + β σ̄",
            ),
            Parameter(
                "rank",
                0.2,
                0.01,
                1.0,
                log=True,
                when={"post": ("laser",)},
                matrices=True,
                doc="ρ, the share of singular values that stay",
            ),
            MEAN_LAMBDA,
        ),
        formula="θ0 + λ · post(aggregate(consensus(w_i · sparsify(τ_i))))",
        notes=(
            "With the slots of a named method it gives that method's bytes: task_arithmetic none/none/sum, ties "
            "magnitude/sum/disjoint_mean, dare_linear random/none/sum, dare_ties random/sum/disjoint_mean, "
            "breadcrumbs outliers/none/sum (scope: row), della magprune/sum/disjoint_mean, sce variance/sum/sce, ram "
            "none/none/ram. Most choices cost one pass a candidate; variance, l1, tall_mask, and sce or ram after a "
            "sparsifier cost several; iso and laser one singular value decomposition a matrix and candidate (about 0.5 "
            "s of a core at 1024 × 1024)."
        ),
    ),
    _slots,
    values_at=post_at,
)
