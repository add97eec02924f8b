"""Spherical mean of any number of inputs in one step (https://goddard.blog/posts/multislerp-wow-what-a-cool-idea).

With unit vectors u_i = x_i/(‖x_i‖ + ε), the direction is that of Σ w_i u_i, and the length Σ w_i ‖x_i‖. The description
then moves along the mean of the u_i's projections on the tangent space at that direction m. This mean is 0, for the
part of Σ w_i u_i that is at right angles to its own direction is none; so there is no such step here.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from evomerge.merge.methods import gram as span
from evomerge.merge.methods.base import BASE, Method, Values, nonzero, too_small
from evomerge.merge.methods.linear import METHOD as LINEAR
from evomerge.merge.methods.linear import shares
from evomerge.merge.methods.parameters import OF, SHARE, of_task_vectors
from evomerge.recipe.method import MethodSpec, Parameter

CANCELLED = 1e-5
"""The length of a mean of unit vectors below which rounding decides where it points."""


def coefficients(gram: np.ndarray, values: Values) -> np.ndarray:
    """Return the coefficients of the inputs, `(n, 1)`; see `evomerge.merge.methods.gram`."""
    eps = cast(float, values["eps"])
    weight = np.array(shares(cast("tuple[float, ...]", values["weight"]), normalize=bool(values["normalize"])))[:, None]
    if not span.is_finite(gram):
        return weight
    norms = np.sqrt(np.einsum("iik->ik", gram))
    scaled = weight / (norms + eps)
    size = np.sqrt(max(0.0, float((scaled[:, None] * scaled[None, :] * gram).sum())))
    if size < max(eps, CANCELLED):
        return weight
    return cast(np.ndarray, scaled * ((weight * norms).sum() / size))


def _one_input(values: Values) -> int | None:
    active = nonzero(values, "weight")
    if not active and of_task_vectors(values):
        return BASE
    return LINEAR.one_input(values)


METHOD = Method(
    spec=MethodSpec(
        name="multislerp",
        summary="weighted mean direction of any number of parents, with the mean of their lengths",
        paper="https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
        topic="angles",
        parameters=(
            SHARE,
            OF,
            Parameter("normalize", True, gene=False, doc="divide the weights by their sum"),
            Parameter("eps", 1e-8, 1e-12, 1e-4, gene=False, doc="ε, added to norms; a shorter mean is none"),
        ),
        needs_base=False,
        share="weight",
        of_equals={"normalize": True},
        formula="θ = (Σ w_i ‖x_i‖) m, m = Σ w_i u_i / ‖Σ w_i u_i‖, u_i = x_i / (‖x_i‖ + ε), x_i = θ_i, or τ_i and + θ0",
        notes="Where the directions cancel (‖Σ w_i u_i‖ < 1e-5, or ε) the result is Σ w_i x_i; mergekit does so below "
        "ε, and refuses more than two models then. A candidate costs one pass.",
    ),
    merge=span.merge(coefficients),
    program=span.program(coefficients),
    prepare=span.prepare,
    prepare_without_torch=True,
    active=LINEAR.active,
    one_input=_one_input,
    problems=lambda values: LINEAR.problems(values) + too_small(values, "eps", above=True),
    shows_bad=True,
    reads_base=of_task_vectors,
)
