"""Parameters that several methods declare alike; where one differs in a word or a range, it replaces that alone."""

from __future__ import annotations

from evomerge.merge.methods.base import Values
from evomerge.recipe.method import Parameter

SHARE = Parameter("weight", 1.0, 0.0, 1.0, per_parent=True, doc="w_i, each parent's share")
WEIGHT = Parameter("weight", 1.0, 0.0, 1.5, per_parent=True, doc="w_i, how much of each parent's task vector is added")
SUM_LAMBDA = Parameter(
    "lambda",
    1.0,
    0.0,
    2.0,
    gene=False,
    scope="global",
    doc="λ, scales the summed task vectors; a search moves the weights instead",
)
# A λ in each group would only repeat what the weights of the group can do.
MEAN_LAMBDA = Parameter("lambda", 1.0, 0.5, 2.5, scope="global", doc="λ, scales the merged task vector")
ELECTION = Parameter(
    "election",
    "sum",
    choices=("sum", "count"),
    gene=False,
    doc="the sign of an entry: of the weighted sum, or of the majority of parents; a draw is +",
)
NORMALIZE_MEAN = Parameter(
    "normalize", True, gene=False, doc="true: mean of the entries that agree (the paper); false: their weighted sum"
)
NORMALIZE_SUM = Parameter(
    "normalize", False, gene=False, doc="true: divide the sum by Σ w_i; weights that sum to 0 give the base"
)

OF = Parameter(
    "of",
    "weights",
    choices=("weights", "task_vectors"),
    gene=False,
    doc="what is merged: the parents' weights, or their task vectors, whose merge is added to the base",
)

SCOPE = Parameter(
    "scope",
    "tensor",
    choices=("tensor", "row", "column"),
    gene=False,
    doc="what has an angle of its own: each tensor, or each of its rows (along the last axis) or columns (the first)",
)


def of_task_vectors(values: Values) -> bool:
    """Return whether task vectors are merged, so that the base is read."""
    return values["of"] == "task_vectors"
