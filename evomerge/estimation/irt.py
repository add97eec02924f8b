"""Item response theory: the multidimensional two-parameter logistic model (M2PL), and a model's ability under it.

    P(model j solves item i) = sigmoid(a_i · theta_j - b_i)        (Reckase 2009, eq. 4.5; d_i = -b_i there)

The difficulty b_i is one number and is subtracted once. Written as the sum over dimensions of (a_id theta_d - b_i), the
formula would subtract it once for each dimension, and fitted values would mean something else for each number of
dimensions. The Rasch model has one dimension and every a_i = 1. Scores between 0 and 1 count as fractions of a success
(binomial likelihood).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import EstimationError
from evomerge.estimation.responses import Floats, Responses


def sigmoid(x: NDArray[np.floating]) -> Floats:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(x, dtype=np.float64))), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class IRT:
    """Item parameters, and the abilities of the models with which they were fitted.

    Attributes:
        items: `(n_items,)` names.
        a: `(n_items, n_dims)` discriminations.
        b: `(n_items,)` difficulties: the logit of the probability that a model of ability 0 fails an item.
        theta: `(n_models, n_dims)` abilities of the calibration models, in the order of their rows.
    """

    items: tuple[str, ...]
    a: Floats
    b: Floats
    theta: Floats

    def __post_init__(self) -> None:
        N = len(self.items)
        if self.a.ndim != 2 or self.a.shape[0] != N or self.b.shape != (N,) or self.theta.shape[1:] != self.a.shape[1:]:
            raise EstimationError(
                f"{N} items need discriminations ({N}, D), difficulties ({N},) and abilities (m, D); got "
                f"{self.a.shape}, {self.b.shape} and {self.theta.shape}"
            )

    @property
    def dimension(self) -> int:
        """The number of abilities of a model."""
        return int(self.a.shape[1])

    def probability(self, theta: Floats) -> Floats:
        """Return the `(n_targets, n_items)` chances of success for `(n_targets, n_dims)` abilities."""
        return sigmoid(theta @ self.a.T - self.b)

    def population(self) -> tuple[Floats, Floats]:
        """Return mean `(n_dims,)` and covariance `(n_dims, n_dims)` of the calibration abilities.

        They are the prior for a further model of the same kind.
        """
        D = self.dimension
        if len(self.theta) < 2:
            return np.zeros(D), np.eye(D)
        # Few models do not determine a covariance: the unit prior of the fit counts like n_dims + 1 further models.
        m = len(self.theta)
        cov = (np.cov(self.theta.T).reshape(D, D) * m + np.eye(D) * (D + 1)) / (m + D + 1)
        return self.theta.mean(0), cov


def fit_irt(responses: Responses, *, dimension: int = 1, rasch: bool = False, steps: int = 250, seed: int = 0) -> IRT:
    """Fit item parameters and abilities by joint maximum a posteriori, in torch (see `irt_fit`).

    Args:
        responses: the calibration models; NaN is left out of the likelihood.
        dimension: the number of abilities of a model.
        rasch: whether every discrimination stays at 1, which needs one dimension.
        steps: steps of gradient descent over all responses.
        seed: of the small random start by which the dimensions come to differ.

    Raises:
        EstimationError: if there are fewer models than dimensions, no items, or a Rasch model has several dimensions.
    """
    if dimension < 1 or (rasch and dimension != 1):
        raise EstimationError(f"the dimension must be at least 1, and 1 for a Rasch model; got {dimension}")
    if responses.n_models < dimension:
        raise EstimationError(
            f"{dimension} dimensions need at least as many models; got {responses.n_models}. Add models or lower the "
            f"dimension"
        )
    if responses.n_items == 0:
        raise EstimationError("an IRT model needs at least one item; the responses hold none")
    from evomerge.estimation.irt_fit import joint_map  # loads torch

    a, b, theta = joint_map(responses.scores, dimension=dimension, rasch=rasch, steps=steps, seed=seed)
    return IRT(responses.items, a, b, theta)


def map_ability(
    irt: IRT, Y: Floats, mean: Floats | None = None, cov: Floats | None = None, *, steps: int = 50
) -> tuple[Floats, Floats]:
    """Return the most probable abilities given responses, by Newton's method for all models at once.

    The log posterior sum_i y_i log p_i + (1 - y_i) log(1 - p_i) - (theta - mean)' cov^-1 (theta - mean) / 2 is concave,
    so damped steps reach its only maximum; the curvature there gives Laplace's approximation of the posterior.

    Args:
        irt: the item parameters.
        Y: `(n_targets, n_items)` responses; NaN: not asked.
        mean: `(n_dims,)` or `(n_targets, n_dims)` prior mean; None: that of the calibration models.
        cov: `(n_dims, n_dims)` or `(n_targets, n_dims, n_dims)` prior covariance, positive definite; None: that of the
            calibration models.
        steps: most steps; a few suffice.

    Returns:
        `(n_targets, n_dims)` abilities and `(n_targets, n_dims, n_dims)` posterior covariances.

    Raises:
        EstimationError: if the responses do not have one column for each item.
    """
    T, D = len(Y), irt.dimension
    if Y.shape != (T, len(irt.items)):
        raise EstimationError(f"responses must have one column for each of {len(irt.items)} items; got shape {Y.shape}")
    default_mean, default_cov = irt.population()
    mu = np.broadcast_to(default_mean if mean is None else mean, (T, D))
    precision = np.linalg.inv(np.broadcast_to(default_cov if cov is None else cov, (T, D, D)))
    asked = ~np.isnan(Y)
    y = np.where(asked, Y, 0.0)
    outer = (irt.a[:, :, None] * irt.a[:, None, :]).reshape(-1, D * D)

    def log_posterior(theta: Floats) -> Floats:
        logits = theta @ irt.a.T - irt.b
        likelihood = np.where(asked, y * logits - np.logaddexp(0, logits), 0.0).sum(1)
        gap = theta - mu
        return np.asarray(likelihood - 0.5 * np.einsum("td,tde,te->t", gap, precision, gap))

    def curvature(theta: Floats) -> tuple[Floats, Floats]:
        p = irt.probability(theta)
        weight = np.where(asked, p * (1 - p), 0.0)
        gradient = np.where(asked, y - p, 0.0) @ irt.a - np.einsum("tde,te->td", precision, theta - mu)
        return gradient, (weight @ outer).reshape(T, D, D) + precision

    theta = np.array(mu, dtype=np.float64)
    value = log_posterior(theta)
    for _ in range(steps):
        gradient, hessian = curvature(theta)
        move = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        if not len(move) or np.abs(move).max() < 1e-9:
            break
        size = np.ones(T)
        for _ in range(30):  # halve a step that overshoots
            trial = theta + size[:, None] * move
            new = log_posterior(trial)
            worse = new < value - 1e-12
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        theta = np.where((new >= value - 1e-12)[:, None], trial, theta)
        value = np.maximum(new, value)
    return theta, np.asarray(np.linalg.inv(curvature(theta)[1]), dtype=np.float64)
