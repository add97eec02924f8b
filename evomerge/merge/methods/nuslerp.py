"""SLERP with weights in place of t, of whole tensors or of each row or column, of weights or of task vectors.

t = w_2 / (w_1 + w_2), and the point at t on the arc between a and b is [sin((1−t)Ω) a + sin(tΩ) b] / sin Ω with
Ω = arccos ⟨a,b⟩/(‖a‖‖b‖) (Shoemake 1985). In contrast to `slerp`, vectors that are nearly parallel keep to the arc.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from evomerge.merge.methods import gram as span
from evomerge.merge.methods.base import Method, Values
from evomerge.merge.methods.parameters import OF, SCOPE, SHARE, of_task_vectors
from evomerge.merge.methods.slerp import PARALLEL
from evomerge.recipe.method import MethodSpec

SMALLEST_SUM = 1e-6
"""Weights whose sum is closer to 0 than this give the middle, t = 0.5."""

_SAME = 1.0 - 1e-15
"""The cosine above which float64 cannot tell two directions apart."""


def share_of_second(values: Values) -> float:
    """Return t."""
    first, second = cast("tuple[float, float]", values["weight"])
    return second / (first + second) if abs(first + second) >= SMALLEST_SUM else 0.5


def coefficients(gram: np.ndarray, values: Values) -> np.ndarray:
    """Return the coefficients of both inputs, `(2, n_parts)`; see `evomerge.merge.methods.gram`."""
    t = share_of_second(values)
    norms, cosine = span.cosines(gram)
    c = cosine[0, 1]
    arc = (norms > 0.0).all(axis=0) & (c >= -PARALLEL) & (c <= _SAME)
    omega = np.arccos(np.where(arc, c, 0.0))
    on_arc = np.stack([np.sin((1.0 - t) * omega), np.sin(t * omega)]) / np.sin(omega)
    return np.where(arc, on_arc, np.array([[1.0 - t], [t]]))


def _one_input(values: Values) -> int | None:
    return {0.0: 0, 1.0: 1}.get(share_of_second(values))


METHOD = Method(
    spec=MethodSpec(
        name="nuslerp",
        summary="point on the arc between two parents by their weights; also of rows, columns or task vectors",
        paper="https://doi.org/10.1145/325334.325242",
        topic="angles",
        parameters=(
            replace(SHARE, doc="w_i; the point on the arc is w_2 / (w_1 + w_2)"),
            OF,
            SCOPE,
        ),
        needs_base=False,
        n_parents=(2, 2),
        share="weight",
        of_equals={},
        formula="θ = [sin((1−t)Ω) x_1 + sin(tΩ) x_2] / sin Ω, t = w_2 / (w_1 + w_2), x_i = θ_i, or τ_i and + θ0",
        notes="Weights that sum to 0 give the middle. Zero and opposite vectors (cos Ω < -0.9995) are interpolated on "
        "the line; mergekit turns a zero vector by a right angle, and lets opposite ones grow without bound. A "
        "candidate costs one pass; with `scope: row` or `column` plain torch, several times slower. Rows and columns "
        "are those of the stored tensor.",
    ),
    merge=span.merge(coefficients),
    program=span.program(coefficients),
    fused=span.in_one_part,
    prepare=span.prepare,
    prepare_without_torch=True,
    active=lambda values: (0, 1),
    one_input=_one_input,
    problems=lambda values: [],
    shows_bad=True,
    reads_base=of_task_vectors,
)
