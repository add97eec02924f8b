"""RAM: keep whole what one parent alone has changed, average what several have. https://arxiv.org/abs/2601.13572.

Updates of reinforcement learning are sparse, and an average would halve what one parent alone learned. RAM+ moreover
scales up what is unique to a parent, the more it shares with others, since the average weakens that part.
"""

from __future__ import annotations

from evomerge.merge.methods.base import Values
from evomerge.merge.methods.parameters import MEAN_LAMBDA, WEIGHT
from evomerge.merge.methods.pipeline.build import build
from evomerge.recipe.method import MethodSpec, Parameter

PAPER = "https://arxiv.org/abs/2601.13572"

_EPSILON = Parameter("epsilon", 1e-5, 0.0, 1e-3, gene=False, doc="an entry is changed where |τ| is larger")
R = Parameter("r", 0.1, 0.0, 1.0, doc="r: unique entries are multiplied by 1 + r · min(ρ_i, α)")
ALPHA = Parameter("alpha", 0.2, 0.0, 1.0, doc="α, the most that ρ_i, shared over unique entries, counts")


def _slots(values: Values) -> Values:
    return {**values, "aggregate": "ram", "tolerance": values[_EPSILON.name]}


RAM = build(
    MethodSpec(
        name="ram",
        summary="whole entries that one parent alone changes, means of those that several change",
        paper=PAPER,
        topic="sparse task vectors",
        parameters=(WEIGHT, MEAN_LAMBDA, _EPSILON),
        formula="θ0 + λ Σ_A w_i τ_i / Σ_A w_i; A: the parents with |τ_i| > ε",
        notes=(
            "The paper has no w_i and no λ (all 1). What no parent changes by more than ε stays the base's, so that "
            "even one parent alone is given back only up to ε. A candidate costs one pass."
        ),
    ),
    _slots,
)

RAM_PLUS = build(
    MethodSpec(
        name="ramplus_tl",
        summary="RAM, with what is unique to a parent scaled up by its overlap with others, per tensor",
        paper=PAPER,
        topic="sparse task vectors",
        parameters=(WEIGHT, MEAN_LAMBDA, R, ALPHA, _EPSILON),
        formula=(
            "as ram, with (1 + r · min(ρ_i, α)) τ_i where one parent alone changes an entry; ρ_i: its shared "
            "over its unique entries"
        ),
        notes=(
            "Overlaps are counted per tensor (`tl`), once per search. The paper has no w_i and no λ (all 1). With r "
            "= 0 it is ram. A candidate costs one pass."
        ),
    ),
    _slots,
)
