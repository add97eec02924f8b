"""DARE: drop entries of each task vector at random, rescale the rest. https://arxiv.org/abs/2311.03099.

τ̂_i = m ⊙ τ_i / density with m ~ Bernoulli(density) per entry, density = 1 − p of the paper, so that E[τ̂_i] = τ_i. Then
comes the weighted sum (`dare_linear`), or TIES' election and mean without its trim (`dare_ties`). The recipe's seed,
the parent's name and the tensor's name fix a mask: its random numbers are a function of these and of an entry's index
(`evomerge.merge.kernels.philox`), so no mask is ever stored. They do not depend on the density, so a smaller density
keeps a subset of what a larger one keeps: a search sees a smooth landscape rather than new noise at every step.

The authors warn that deltas larger than about 0.03 (continued pre-training) do not survive a small density.
"""

from __future__ import annotations

from evomerge.merge.methods.base import Values
from evomerge.merge.methods.parameters import ELECTION, MEAN_LAMBDA, NORMALIZE_MEAN, NORMALIZE_SUM, SUM_LAMBDA, WEIGHT
from evomerge.merge.methods.pipeline.build import build
from evomerge.merge.methods.ties import elected
from evomerge.recipe.method import MethodSpec, Parameter

PAPER = "https://arxiv.org/abs/2311.03099"

RESCALE = Parameter(
    "rescale",
    "inverse",
    choices=("inverse", "l1", "none"),
    gene=False,
    doc=(
        "what is kept is divided by its chance to be kept (the paper), or given the l1 norm of the whole τ_i (mergekit)"
    ),
)

_DENSITY = Parameter("density", 0.1, 0.05, 1.0, per_parent=True, doc="1 − p, the chance that an entry is kept")

_NOTES = (
    "The mean over all masks of τ̂_i is τ_i. Masks follow from seed, parent, tensor and index alone, and are nested: a "
    "larger density keeps all that a smaller one kept. The chance is a fraction of 2^16. Density 0 leaves nothing. "
    "Task vectors with entries above 0.03 or so do not survive a small density, say the authors. mergekit rescales by "
    "the l1 norm of the tensor (rescale: l1, which costs several passes a candidate; otherwise one)."
)


def summed(values: Values, sparsify: str) -> Values:
    """Return the slots of a method that sparsifies and adds up."""
    return {**values, "sparsify": sparsify, "aggregate": "mean" if values["normalize"] else "sum"}


LINEAR = build(
    MethodSpec(
        name="dare_linear",
        summary="task arithmetic on randomly dropped and rescaled task vectors",
        paper=PAPER,
        topic="sparse task vectors",
        parameters=(WEIGHT, _DENSITY, SUM_LAMBDA, NORMALIZE_SUM, RESCALE),
        share=WEIGHT.name,
        share_with={NORMALIZE_SUM.name: False},
        formula="θ0 + λ Σ w_i τ̂_i; τ̂_i = m_i ⊙ τ_i / density_i, m_i ~ Bernoulli(density_i)",
        notes=_NOTES,
    ),
    lambda values: summed(values, "random"),
    without_torch=True,
)

TIES = build(
    MethodSpec(
        name="dare_ties",
        summary="sign election and disjoint mean on randomly dropped and rescaled task vectors",
        paper=PAPER,
        topic="sparse task vectors",
        parameters=(WEIGHT, _DENSITY, MEAN_LAMBDA, ELECTION, NORMALIZE_MEAN, RESCALE),
        share=WEIGHT.name,
        formula="θ0 + λ Σ_A w_i τ̂_i / Σ_A w_i; τ̂_i as in dare_linear; A: those with the elected sign",
        notes=f"A draw elects +; negative weights are refused. {_NOTES}",
    ),
    lambda values: elected(values, "random"),
    without_torch=True,
)
