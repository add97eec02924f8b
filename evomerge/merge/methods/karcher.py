"""Karcher mean: the direction from which the inputs' directions are nearest, by squared angles.

Directions are points on a sphere. From the normalised mean u, the iteration moves along the mean of the logarithms,
T = Σ α_i (Ω_i / sin Ω_i)(u_i − ⟨u_i,u⟩ u) with Ω_i = arccos ⟨u_i,u⟩, until ‖T‖ < tol (Karcher 1977,
https://doi.org/10.1002/cpa.3160300502; for merging: https://arxiv.org/abs/2603.04972). The length is Σ α_i ‖x_i‖.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from evomerge.merge.methods import gram as span
from evomerge.merge.methods.base import Method, Values, nonzero, only_weighted, too_small
from evomerge.merge.methods.parameters import OF, SHARE, of_task_vectors
from evomerge.merge.methods.slerp import PARALLEL
from evomerge.recipe.method import MethodSpec, Parameter


def coefficients(gram: np.ndarray, values: Values) -> np.ndarray:
    """Return the coefficients of the inputs, `(n, 1)`; see `evomerge.merge.methods.gram`."""
    weight = np.array(cast("tuple[float, ...]", values["weight"]))
    share = weight / weight.sum()
    if not span.is_finite(gram):
        return share[:, None]
    norms, cosine = span.cosines(gram)
    length = float((share * norms[:, 0]).sum())
    some = norms[:, 0] > 0.0
    if not some.any():
        return share[:, None]
    alpha, found = share[some] / share[some].sum(), np.zeros_like(share)
    direction = mean_direction(
        cosine[:, :, 0][np.ix_(some, some)],
        alpha,
        max_iter=int(cast(float, values["max_iter"])),
        tol=cast(float, values["tol"]),
    )
    found[some] = length * direction / norms[some, 0]
    return found[:, None]


def mean_direction(cosine: np.ndarray, alpha: np.ndarray, *, max_iter: int, tol: float) -> np.ndarray:
    """Return the coefficients of unit vectors with which they sum to their Karcher mean.

    Args:
        cosine: `(n, n)`, their dot products.
        alpha: `(n,)`, their shares, which sum to 1.
        max_iter: how many steps are made at most.
        tol: the length of a step, in radians, below which none is made.
    """

    def length(x: np.ndarray) -> float:
        # Sums in the order of the entries, since a library of linear algebra may take another one on other machines.
        return float(np.sqrt(max(0.0, float((x[:, None] * x * cosine).sum()))))

    mean, size = alpha, length(alpha)
    mean = mean / size if size >= tol else np.eye(len(alpha))[0]  # directions that cancel: start from the first
    for _ in range(max_iter):
        dots = np.clip((cosine * mean).sum(axis=1), -1.0, 1.0)
        angle = np.arccos(dots)
        usable = (angle >= tol) & (dots >= -PARALLEL)  # an opposite vector says nothing about where to go
        rate = np.where(usable, alpha * angle / np.sin(np.where(usable, angle, 1.0)), 0.0)
        step = rate - float((rate * dots).sum()) * mean
        size = length(step)
        if size < tol:
            break
        mean = np.cos(size) * mean + np.sin(size) / size * step
        mean = mean / length(mean)
    return mean


def _problems(values: Values) -> list[str]:
    steps = too_small(values, "max_iter", 1.0) + too_small(values, "tol", above=True)
    return span.positive_sum_problems(values) + steps


METHOD = Method(
    spec=MethodSpec(
        name="karcher",
        summary="mean direction on the sphere (Karcher, Riemannian centre of mass), with the mean of the lengths",
        paper="https://arxiv.org/abs/2603.04972",
        topic="angles",
        parameters=(
            SHARE,
            OF,
            Parameter("max_iter", 10, 1, 100, integer=True, gene=False, doc="most steps of the iteration"),
            Parameter("tol", 1e-5, 1e-9, 1e-2, gene=False, doc="the step, in radians, below which it ends"),
        ),
        needs_base=False,
        share="weight",
        of_equals={},
        formula="θ = (Σ α_i ‖x_i‖) · argmin_u Σ α_i ∠(x_i, u)², ‖u‖ = 1, α_i = w_i / Σ w, x_i = θ_i, or τ_i and + θ0",
        notes="Zero vectors count in the length alone. mergekit has equal weights only, and takes a base model as one "
        "more parent; here a base takes no part unless `of: task_vectors` measures from it. Iterated on the dot "
        "products of the parents, so a candidate costs one pass.",
    ),
    merge=span.merge(coefficients),
    program=span.program(coefficients),
    prepare=span.prepare,
    prepare_without_torch=True,
    active=lambda values: nonzero(values, "weight"),
    one_input=only_weighted,
    problems=_problems,
    shows_bad=True,
    reads_base=of_task_vectors,
)
