"""The model of one run: how able each candidate is, and how hard each item, learned from the run's own answers.

    logit P(Y_ci = 1) = theta_c + b_i

- **Items.** `b_i ~ N(w_0 + w . f_i, tau^2)`: an item's easiness is predicted by which references (the parents and their
  average, which answered every item) are right on it, and corrected by the candidates' answers. A merge is right with
  probability .18, .62 and .94 where none, some and all of its parents are right (merges of the Open LLM Leaderboard,
  GSM8K); this is the prior of `w`, so that the first candidates are estimated well too.
- **Candidates.** `theta ~ GP(m, s^2 exp(-|x - x'|^2 / (2 l^2)) + d^2 [x = x'])` over the genomes: candidates with
  similar genomes are about equally able (`landscape`). How similar they must be is learned from the run (s, l, d
  maximize the marginal likelihood on a grid). So a candidate has a prior from its parents and its genome, and shrinkage
  is estimated rather than fixed.

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

from evomerge.estimation.landscape import Landscape

Array = NDArray[np.float64]

_ROUNDS = 20
_SHARE_PRIOR = (4.2, 1.5)
"""Prior mean and deviation of the logit's difference between items that all references have right and that none has:
logit .94 - logit .18 = 4.27."""
_REFERENCE_DEVIATION = 1.0
_LEVEL_DEVIATION = 3.0
_TAU_START, _TAU_PRIOR_WEIGHT, _TAU_MOST = 1.0, 20.0, 3.0


@dataclass(frozen=True)
class _Answers:
    """All answers one below the other: most candidates answer few items, so a matrix would be nearly empty.

    Attributes:
        row: `(n_answers,)` positions of the candidates.
        item: `(n_answers,)` positions of the items.
        y: `(n_answers,)` the answers.
    """

    row: NDArray[np.int64]
    item: NDArray[np.int64]
    y: Array
    n_rows: int
    n_items: int

    @classmethod
    def of(cls, answers: Array) -> _Answers:
        """Return the answers of a matrix `(n_candidates, n_items)`, NaN where there is none."""
        row, item = np.nonzero(~np.isnan(answers))
        return cls(row, item, answers[row, item], *answers.shape)

    def by_row(self, values: Array) -> Array:
        """Return the `(n_rows,)` sums of each candidate's values."""
        return np.asarray(np.bincount(self.row, values, self.n_rows), dtype=np.float64)

    def by_item(self, values: Array) -> Array:
        """Return the `(n_items,)` sums of each item's values."""
        return np.asarray(np.bincount(self.item, values, self.n_items), dtype=np.float64)


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
        self._set_up(np.empty(0), [])

    def fit(self, answers: Array, points: Sequence[Array | None]) -> None:
        """Fit to the candidates so far, in time and memory proportional to them.

        Args:
            answers: `(n_candidates, n_items)`, NaN where not answered.
            points: for each candidate its `(n_dims,)` point in the unit cube; None: it has none in this space (its
                answers still show how hard items are).
        """
        answers = np.asarray(answers, dtype=np.float64).reshape(-1, self.n_items)
        told = np.flatnonzero(~np.isnan(answers).all(axis=1))
        seen = _Answers.of(answers[told])
        self._set_up(seen.y, [points[row] for row in told.tolist()])
        if not len(told):
            return
        theta = np.zeros(seen.n_rows)
        for turn in range(_ROUNDS):
            # Items, given abilities: a ridge regression of each item's working answer on its features, item by item.
            weight, residual = self._working(seen, theta)
            self._fit_items(seen.by_item(weight), seen.by_item(residual + weight * self._easiness[seen.item]))
            # Abilities, given items.
            weight, residual = self._working(seen, theta)
            w = seen.by_row(weight)
            noise = 1.0 / np.maximum(w, 1e-9)
            z = theta + seen.by_row(residual) * noise
            if turn in (5, 10, 15):
                self._landscape.choose(z[self._placed], noise[self._placed])
            theta[self._placed] = self._landscape.smooth(z[self._placed], noise[self._placed])
            wide = self._landscape.wide + (_LEVEL_DEVIATION * self._unit) ** 2
            theta[self._unplaced] = (wide / (wide + noise) * z)[self._unplaced]
        self._finish(seen, theta)

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

    def _set_up(self, answered: Array, points: Sequence[Array | None]) -> None:
        """Begin anew, for answers (in any order) of candidates with these points."""
        self._binary = all(bool(((one >= 0.0) & (one <= 1.0)).all()) for one in (self._references, answered))
        placed = np.array([point is not None for point in points], dtype=bool)
        self._placed, self._unplaced = np.flatnonzero(placed), np.flatnonzero(~placed)
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
        where = np.array([point for point in points if point is not None], dtype=np.float64)
        self._landscape = Landscape(where, _LEVEL_DEVIATION * unit, unit)
        self._level: float | None = None

    def _working(self, seen: _Answers, theta: Array) -> tuple[Array, Array]:
        """Return the weights of iteratively reweighted least squares, and the weighted residuals, of each answer."""
        eta = theta[seen.row] + self._easiness[seen.item]
        if not self._binary:
            even = np.full(len(eta), 1.0 / self._noise_scale)
            return even, even * (seen.y - eta)
        # The weights of Polya-Gamma augmentation (Polson, Scott and Windle, JASA 108:1339, 2013): unlike Newton's
        # p (1 - p), which vanish where an item is nearly always right, each step with them raises the posterior.
        half = np.maximum(np.abs(eta), 1e-6) / 2.0
        weight = np.tanh(half) / (4.0 * half)
        return weight, seen.y - 0.5 - weight * eta

    def _finish(self, seen: _Answers, theta: Array) -> None:
        """Find from the curvature at the optimum how well items and abilities are known."""
        if self._binary:
            p = _sigmoid(theta[seen.row] + self._easiness[seen.item])
            weight, residual = np.maximum(p * (1.0 - p), 0.01), seen.y - p
        else:
            weight, residual = self._working(seen, theta)
        self._item_variance = 1.0 / (1.0 / self._tau2 + seen.by_item(weight))
        w = seen.by_row(weight)
        z = theta + seen.by_row(residual) / np.maximum(w, 1e-9)
        self._level = float(np.average(z, weights=w))
        if len(self._placed):
            self._landscape.learn(z[self._placed], 1.0 / np.maximum(w[self._placed], 1e-9))

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

    def _prior(self, point: Array | None) -> tuple[float, float]:
        """Return mean and variance of the ability at a point, before a candidate's answers."""
        learned = self._level is not None and len(self._placed) > 0
        if point is not None and learned:
            return self._landscape.prior(np.asarray(point, dtype=np.float64))
        unknown = 0.0 if learned else (0.5 * _LEVEL_DEVIATION * self._unit) ** 2
        return self._level or 0.0, self._landscape.wide + unknown


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))))
