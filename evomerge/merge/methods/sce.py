"""SCE: select, calculate, erase. https://arxiv.org/abs/2408.07990.

Entries in which the parents vary most are selected, each parent is weighed by the mean square of what is left of its
task vector, and entries against the sign of the sum are erased.
"""

from __future__ import annotations

from evomerge.merge.methods.base import Values
from evomerge.merge.methods.parameters import MEAN_LAMBDA, WEIGHT
from evomerge.merge.methods.pipeline.build import build
from evomerge.recipe.method import MethodSpec, Parameter

SELECT = Parameter(
    "select_topk", 0.1, 0.05, 1.0, doc="share of the entries in which parents differ that is kept, by variance; 1: all"
)


def _slots(values: Values) -> Values:
    select = "none" if values[SELECT.name] == 1.0 else "variance"
    return {**values, "sparsify": select, "consensus": "sum", "aggregate": "sce"}


METHOD = build(
    MethodSpec(
        name="sce",
        summary="keep the entries in which parents vary most, weigh parents by their mean square, erase minority signs",
        paper="https://arxiv.org/abs/2408.07990",
        topic="sparse task vectors",
        parameters=(WEIGHT, SELECT, MEAN_LAMBDA),
        formula="θ0 + λ Σ_A c_i τ̂_i / Σ_A c_i; c_i = w_i · mean(τ̂_i²); A: those with the sign of Σ w_i τ̂_i",
        notes=(
            "The paper has no w_i and no λ (all 1). With select_topk: 1 nothing is selected. Parents that do not "
            "differ anywhere keep everything, so that equal parents give themselves (the authors' code gives the "
            "base). A draw elects +. mergekit weighs parents alike where the squares sum to less than 1e-6, as those "
            "of most fine-tunes do; here their shares always count, and only task vectors of zeros are weighed "
            "alike. With select_topk: 1 a candidate costs one pass, else several and a selection of a tensor's "
            "entries."
        ),
    ),
    _slots,
)
