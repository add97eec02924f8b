"""The model of one run: how able each candidate is, and how hard each item, learned from the run's own answers.

    logit P(Y_ci = 1) = theta_c + b_i

- **Items.** `b_i ~ N(w_0 + w . f_i, tau^2)`: an item's easiness is predicted by which references (the parents and their
  average, which answered every item) are right on it, and corrected by the candidates' answers. A merge is right with
  probability .18, .62 and .94 where none, some and all of its parents are right (merges of the Open LLM Leaderboard,
  GSM8K); this is the prior of `w`, so that the first candidates are estimated well too.
- **Candidates.** `theta ~ GP(m, s^2 exp(-|x - x'|^2 / (2 l^2)) + d^2 [x = x'])` over the genomes: candidates with
  similar genomes are about equally able. How similar they must be is learned from the run (s, l, d maximize the
  marginal likelihood on a grid). So a candidate has a prior from its parents and its genome, and shrinkage is estimated
  rather than fixed.

This is the Rasch model as a generalized linear mixed model, fitted by penalized iteratively reweighted least squares
(Breslow and Clayton, JASA 88:9, 1993). The estimate of a full score from few answers is that of p-IRT (Maia Polo et
al., arXiv 2402.14992, eq. 3): the given answers as they are, and expected answers for the rest. Answers between 0 and 1
count as fractions; for answers outside of [0, 1] (a log-probability) the model has the identity in place of the logit,
and a normal error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ROUNDS = 20
_SHARE_PRIOR = (4.2, 1.5)
"""Prior mean and deviation of the logit's difference between items that all references have right and that none has:
logit .94 - logit .18 = 4.27."""
_REFERENCE_DEVIATION = 1.0
_LEVEL_DEVIATION = 3.0
_LENGTHS = (0.05, 0.1, 0.2, 0.4, 0.8)  # times the root of the number of genes
_SPREADS = (0.25, 0.5, 1.0, 2.0)
_NUGGETS = (0.05, 0.2, 0.5)
_START_SPREAD = 1.5
"""Prior deviation of ability before any candidate was seen."""
_TAU_START, _TAU_PRIOR_WEIGHT, _TAU_MOST = 1.0, 20.0, 3.0


@dataclass(frozen=True)
class Prediction:
    """What the model expects of one candidate.

    Attributes:
        mean: `(n_items,)` expected answers; given answers as they are.
        slope: `(n_items,)` derivative of the expected answers by the ability; 0 for given answers.
        noise: `(n_items,)` variance of each answer around its expectation; 0 for given answers.
        shared: `(n_items, n_features)` how one standard deviation of each item coefficient would change the answers.
        ability: the mean of theta, in logits.
        variance: the variance of theta.
    """

    mean: Array
    slope: Array
    noise: Array
    shared: Array
    ability: float
    variance: float

    def total(self, weights: Array) -> tuple[float, float]:
        """Return the expectation and the standard error of the weighted sum of all answers."""
        shared = float(weights @ self.slope) ** 2 * self.variance + float(((weights @ self.shared) ** 2).sum())
        return float(weights @ self.mean), math.sqrt(shared + float(weights**2 @ self.noise))


class RunModel:
    """The model of a run, which predicts a candidate from its genome and its answers so far.

    Args:
        references: `(n_references, n_items)` answers of models that answered every item; at least one.

    Raises:
        ValueError: if there are no references.
    """

    def __init__(self, references: Array) -> None:
        references = np.asarray(references, dtype=np.float64)
        if references.ndim != 2 or not len(references) or not np.isfinite(references).all():
            raise ValueError("the model of a run needs at least one reference that answered every item")
        self.n_items = references.shape[1]
        self._references = references
        share = references.mean(axis=0)
        self._features = np.column_stack([np.ones(self.n_items), share, (references - share).T])
        self._binary = True
        self._set_up(np.empty((0, self.n_items)), [])

    def fit(self, answers: Array, points: Sequence[Array | None]) -> None:
        """Fit to the candidates so far.

        Args:
            answers: `(n_candidates, n_items)`, NaN where not answered.
            points: for each candidate its `(n_dims,)` point in the unit cube; None: it has none in this space (its
                answers still show how hard items are).
        """
        self._set_up(np.asarray(answers, dtype=np.float64).reshape(-1, self.n_items), points)
        seen = ~np.isnan(self._answers)
        if not seen.any():
            return
        filled = np.where(seen, self._answers, 0.0)
        theta = np.zeros(len(filled))
        for turn in range(_ROUNDS):
            # Items, given abilities: a ridge regression of each item's working answer on its features, item by item.
            weight, residual = self._working(filled, seen, theta)
            w_item = weight.sum(axis=0)
            z_item = (residual + weight * self._easiness).sum(axis=0)
            self._fit_items(w_item, z_item)
            # Abilities, given items.
            weight, residual = self._working(filled, seen, theta)
            w_row = weight.sum(axis=1)
            z_row = theta + residual.sum(axis=1) / np.maximum(w_row, 1e-9)
            if turn in (5, 10, 15):
                self._fit_landscape(z_row, 1.0 / np.maximum(w_row, 1e-9))
            theta, _ = self._leave_in(z_row, w_row)
        self._finish(filled, seen, theta)
        self._prepare_prediction()

    def predict(self, point: Array | None, answers: Array) -> Prediction:
        """Return what is expected of a candidate.

        Args:
            point: `(n_dims,)`, its point in the unit cube; None: it has none.
            answers: `(n_items,)`, NaN where not answered.
        """
        seen = ~np.isnan(answers)
        filled = np.where(seen, answers, 0.0)
        prior_mean, prior_variance = self._prior(point)
        theta = prior_mean
        for _ in range(30):
            p, slope, kappa = self._expect(theta, 0.0)
            information = float((kappa * slope)[seen].sum()) / self._noise_scale + 1.0 / prior_variance
            gradient = float((kappa * (filled - p))[seen].sum()) / self._noise_scale
            step = (gradient - (theta - prior_mean) / prior_variance) / information
            theta += float(np.clip(step, -2.0 * self._unit, 2.0 * self._unit))
            if abs(step) < 1e-9 * self._unit:
                break
        # An error of the coefficients moves the expected answers, and in return the ability the other way.
        _, slope, kappa = self._expect(theta, 0.0)
        moved = -(((kappa * slope)[seen] / self._noise_scale) @ self._features[seen]) / information
        p, slope, _ = self._expect(theta, 1.0 / information)
        noise = p * (1.0 - p) if self._binary else self._noise_scale + self._item_variance
        return Prediction(
            mean=np.where(seen, filled, p),
            slope=np.where(seen, 0.0, slope),
            noise=np.where(seen, 0.0, noise),
            shared=np.where(seen, 0.0, slope)[:, None] * (self._features + moved) @ self._coefficient_root,
            ability=theta,
            variance=1.0 / information,
        )

    # --- inside ---------------------------------------------------------------------------------------------------

    def _set_up(self, answers: Array, points: Sequence[Array | None]) -> None:
        values = [self._references, answers[~np.isnan(answers)]]
        self._binary = all(bool(((one >= 0.0) & (one <= 1.0)).all()) for one in values)
        self._answers, self._points = answers, list(points)
        # For unbounded answers, all variances are in units of the answers' own spread.
        self._noise_scale = 1.0 if self._binary else max(float(np.var(self._references)) * 0.25, 1e-12)
        unit = 1.0 if self._binary else math.sqrt(self._noise_scale)
        self._unit = unit
        self._tau2 = (_TAU_START * unit) ** 2
        deviation = np.full(self._features.shape[1], _REFERENCE_DEVIATION * unit)
        self._coefficient_mean = np.zeros(len(deviation))
        deviation[0] = _LEVEL_DEVIATION * unit
        if self._binary:
            self._coefficient_mean[1], deviation[1] = _SHARE_PRIOR
            self._coefficient_mean[0] = math.log(0.18 / 0.82)
        else:
            self._coefficient_mean[1], deviation[1] = 1.0, 0.5
            deviation[0] = max(float(np.std(self._references)), unit) * 3.0
        self._coefficient_precision = 1.0 / deviation**2
        self._coefficient_root = np.diag(deviation)
        self._easiness = self._features @ self._coefficient_mean
        self._item_variance = np.full(self.n_items, self._tau2)
        self._landscape = (0.2, _START_SPREAD * unit, 0.2 * unit)
        self._z = self._w = np.empty(0)
        self._prepare_prediction()

    def _working(self, filled: Array, seen: NDArray[np.bool_], theta: Array) -> tuple[Array, Array]:
        """Return the weights of iteratively reweighted least squares, and the weighted residuals."""
        eta = theta[:, None] + self._easiness
        if not self._binary:
            even = np.where(seen, 1.0 / self._noise_scale, 0.0)
            return even, even * (filled - eta)
        # The weights of Polya-Gamma augmentation (Polson, Scott and Windle, JASA 108:1339, 2013): unlike Newton's
        # p (1 - p), which vanish where an item is nearly always right, each step with them raises the posterior.
        half = np.maximum(np.abs(eta), 1e-6) / 2.0
        weight = np.where(seen, np.tanh(half) / (4.0 * half), 0.0)
        return weight, np.where(seen, filled - 0.5 - weight * eta, 0.0)

    def _finish(self, filled: Array, seen: NDArray[np.bool_], theta: Array) -> None:
        """Find from the curvature at the optimum how well items and abilities are known."""
        if self._binary:
            p = _sigmoid(theta[:, None] + self._easiness)
            weight = np.where(seen, np.maximum(p * (1.0 - p), 0.01), 0.0)
            residual = np.where(seen, filled - p, 0.0)
        else:
            weight, residual = self._working(filled, seen, theta)
        self._item_variance = 1.0 / (1.0 / self._tau2 + weight.sum(axis=0))
        self._w = weight.sum(axis=1)
        self._z = theta + residual.sum(axis=1) / np.maximum(self._w, 1e-9)

    def _expect(self, theta: float, variance: float) -> tuple[Array, Array, Array]:
        """Return expected answers and slopes, averaged over the uncertainty of items (and of the ability).

        Returns:
            `(n_items,)` expected answers, their slopes, and the factor by which the uncertainty flattens them.
        """
        eta = theta + self._easiness
        if not self._binary:
            return eta, np.ones_like(eta), 1.0 / (1.0 + self._item_variance / self._noise_scale)
        # The logistic function averaged over a normal distribution (MacKay, Neural Computation 4:720, 1992).
        kappa = 1.0 / np.sqrt(1.0 + math.pi / 8.0 * (self._item_variance + variance))
        p = _sigmoid(kappa * eta)
        return p, kappa * p * (1.0 - p), kappa

    def _fit_items(self, w_item: Array, z_item: Array) -> None:
        """Fit coefficients and items; `z_item / w_item` is a noisy observation of each item's easiness."""
        # Marginally over the items' own deviations, each observation has the variance tau^2 + 1 / w.
        precision = w_item / (1.0 + self._tau2 * w_item)
        target = np.where(w_item > 0, z_item / np.maximum(w_item, 1e-12), 0.0)
        features = self._features
        left = (features * precision[:, None]).T @ features + np.diag(self._coefficient_precision)
        right = features.T @ (precision * target) + self._coefficient_precision * self._coefficient_mean
        coefficients = np.linalg.solve(left, right)
        self._coefficient_root = np.linalg.cholesky(np.linalg.inv(left))
        expected = features @ coefficients
        self._item_variance = 1.0 / (1.0 / self._tau2 + w_item)
        self._easiness = self._item_variance * (expected / self._tau2 + z_item)
        # One step of expectation-maximization for tau, with a prior worth a few items, so that it cannot vanish.
        looked = w_item > 0
        second = ((self._easiness - expected) ** 2 + self._item_variance)[looked].sum()
        prior = _TAU_PRIOR_WEIGHT * (_TAU_START * self._unit) ** 2
        tau2 = float((second + prior) / (looked.sum() + _TAU_PRIOR_WEIGHT))
        self._tau2 = min(tau2, (_TAU_MOST * self._unit) ** 2)

    def _fit_landscape(self, z: Array, variance: Array) -> None:
        """Choose the kernel's length, spread and nugget by the marginal likelihood of the abilities."""
        rows = [row for row, point in enumerate(self._points) if point is not None and self._w_seen(row)]
        if len(rows) < 5:
            return
        x = np.array([self._points[row] for row in rows])
        distance = _squared_distances(x, x) / x.shape[1]
        best, chosen = -math.inf, self._landscape
        for length in _LENGTHS:
            shape = np.exp(-distance / (2.0 * length**2))
            for spread in _SPREADS:
                for nugget in _NUGGETS:
                    s, d = spread * self._unit, nugget * self._unit
                    k = s**2 * shape + np.diag(d**2 + variance[rows]) + (_LEVEL_DEVIATION * self._unit) ** 2
                    fit = _log_likelihood(k, z[rows])
                    # A weak preference for the middle of the grid decides where the data does not.
                    fit -= 0.5 * math.log(spread) ** 2
                    if fit > best:
                        best, chosen = fit, (length, s, d)
        self._landscape = chosen

    def _w_seen(self, row: int) -> bool:
        return bool((~np.isnan(self._answers[row])).any())

    def _kernel(self, x: Array, y: Array) -> Array:
        length, spread, _ = self._landscape
        level = (_LEVEL_DEVIATION * self._unit) ** 2
        distance = _squared_distances(x, y) / x.shape[1]
        return spread**2 * np.asarray(np.exp(-distance / (2.0 * length**2))) + level

    def _leave_in(self, z: Array, w: Array) -> tuple[Array, Array]:
        """Return the posterior mean and variance of each candidate's ability."""
        _, spread, nugget = self._landscape
        mean = np.zeros(len(z))
        variance = np.zeros(len(z))
        rows = [row for row, point in enumerate(self._points) if point is not None]
        others = [row for row, point in enumerate(self._points) if point is None]
        if rows:
            x = np.array([self._points[row] for row in rows])
            prior = self._kernel(x, x) + nugget**2 * np.eye(len(rows))
            gain = np.linalg.solve(prior + np.diag(1.0 / np.maximum(w[rows], 1e-9)), prior).T
            mean[rows] = gain @ z[rows]
            variance[rows] = np.maximum(np.diag(prior - gain @ prior), 1e-9)
        wide = spread**2 + nugget**2 + (_LEVEL_DEVIATION * self._unit) ** 2
        for row in others:
            variance[row] = 1.0 / (1.0 / wide + w[row])
            mean[row] = variance[row] * w[row] * z[row]
        return mean, variance

    def _prepare_prediction(self) -> None:
        rows = [row for row in range(len(self._z)) if self._points[row] is not None and self._w[row] > 1e-6]
        if not rows:
            self._known: tuple[Array, Array, Array] | None = None
            return
        x: Array = np.array([self._points[row] for row in rows], dtype=np.float64)
        k = self._kernel(x, x) + np.diag(self._landscape[2] ** 2 + 1.0 / self._w[rows])
        inverse = np.linalg.inv(k).astype(np.float64, copy=False)
        self._known = (x, inverse, inverse @ self._z[rows])

    def _prior(self, point: Array | None) -> tuple[float, float]:
        _, spread, nugget = self._landscape
        wide = spread**2 + nugget**2
        if point is None or self._known is None:
            level = 0.0 if self._known is not None else (0.5 * _LEVEL_DEVIATION * self._unit) ** 2
            return (float(np.average(self._z, weights=self._w)) if len(self._z) else 0.0), wide + level
        x, inverse, alpha = self._known
        k = self._kernel(np.asarray(point)[None], x)[0]
        own = float(self._kernel(np.asarray(point)[None], np.asarray(point)[None])[0, 0]) + nugget**2
        return float(k @ alpha), max(own - float(k @ inverse @ k), nugget**2, 1e-9)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))))


def _squared_distances(x: Array, y: Array) -> Array:
    return np.asarray(np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2.0 * x @ y.T, 0.0))


def _log_likelihood(k: Array, z: Array) -> float:
    factor = np.linalg.cholesky(k)
    half = np.linalg.solve(factor, z)
    return float(-0.5 * half @ half - np.log(np.diag(factor)).sum())
