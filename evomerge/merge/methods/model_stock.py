"""Model Stock: from the average of fine-tuned models back towards their base, by how their task vectors agree.

With c the mean cosine of the pairs of task vectors, t = N c / (1 + (N − 1) c), and θ = θ0 + t · mean τ_i
(https://arxiv.org/abs/2403.19522, equations 2 and 6). Task vectors at right angles are noise around the base; equal
ones are kept whole.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from evomerge.merge.methods import gram as span
from evomerge.merge.methods.base import Method, Values, too_small
from evomerge.merge.methods.parameters import SCOPE
from evomerge.recipe.method import MethodSpec, Parameter


def coefficients(gram: np.ndarray, values: Values) -> np.ndarray:
    """Return the coefficients of the task vectors, `(n, n_parts)`; see `evomerge.merge.methods.gram`."""
    n = len(gram)
    _, cosine = span.cosines(gram)
    c = np.clip((cosine.sum(axis=(0, 1)) - np.einsum("iik->k", cosine)) / (n * (n - 1)), 0.0, 1.0)
    t = (n * c / (1.0 + (n - 1) * c)) ** cast(float, values["exponent"])
    return np.broadcast_to(t / n, (n, len(t)))


METHOD = Method(
    spec=MethodSpec(
        name="model_stock",
        summary="average of the parents, pulled to the base where their task vectors disagree",
        paper="https://arxiv.org/abs/2403.19522",
        topic="angles",
        parameters=(
            replace(
                SCOPE,
                choices=("tensor", "row"),
                doc="what has a ratio of its own: each tensor, or each of its rows (the paper's filters)",
            ),
            Parameter("exponent", 1.0, 0.0, 2.0, doc="of t: 1 is the paper, 0 the plain average; larger: more base"),
        ),
        n_parents=(2, None),
        formula="θ = θ0 + t · Σ τ_i / N, t = N c / (1 + (N − 1) c), c = mean cos(τ_i, τ_j)",
        notes="c is held within [0, 1], since below 0 the formula leaves the base on the other side; mergekit divides "
        "by 0 at c = −1/(N − 1), and counts short task vectors (‖τ_i‖‖τ_j‖ < 1e-6) as less alike. Zero task vectors "
        "have cosine 0. A candidate costs one pass; with `scope: row` plain torch, several times slower.",
    ),
    merge=span.merge(coefficients),
    program=span.program(coefficients),
    fused=span.in_one_part,
    prepare=span.prepare,
    prepare_without_torch=True,
    active=None,
    one_input=lambda values: None,
    problems=lambda values: too_small(values, "exponent"),
    shows_bad=True,
)
