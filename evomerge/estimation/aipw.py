"""The mean of the answers, corrected by a predictor: augmented inverse propensity weighting.

    estimate = mean over the pool of f + sum of w_i (y_i - f_i) / sum of w_i over the answers        (Robins, Rotnitzky
    and Zhao, JASA 89:846, 1994)

f is any prediction of an item's score. Where items were drawn at random (`w_i` one over the chance of being drawn, all
alike for `uniform` and `stratified`), the estimate is right on average however wrong f is: a good f makes its variance
small, a bad one does no harm. That holds for models better than all that a predictor was made from, where predictions
alone fail (Zhang, Dorner and Hardt, arXiv 2506.07673).

Two things keep a predictor that learns from the same answers honest. An answer is compared with what f says of it
without having seen it (leave one out; cross-fitting), and f counts by a factor between 0 and 1 that makes the variance
least (power tuning; Angelopoulos, Duchi and Zrnic, arXiv 2311.01453, eq. 8): 0 is the plain mean.

Items that were chosen by earlier answers were not drawn at random, and nothing here is promised for them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import EstimationError
from evomerge.estimation.base import Estimate, Mask, Parents, Seen
from evomerge.estimation.mixture import Mixture
from evomerge.estimation.posterior import TEMPER
from evomerge.estimation.regression import PENALTIES
from evomerge.estimation.responses import Floats, Responses
from evomerge.estimation.simple import filled

TUNED_FROM = 10.0
"""With so many answers the measured factor counts half, and half that of a predictor as good as it says, which is 1."""
_LEAST_SPREAD = 1e-6


class _Corrected:
    """The mean corrected by the predictions of a subclass."""

    def estimate(
        self, seen: Floats, *, pool: Mask | None = None, parents: Parents | None = None, weights: Floats | None = None
    ) -> Estimate:
        """Estimate targets.

        Args:
            seen: `(n_targets, n_items)` answers; NaN: not asked.
            pool: `(n_targets, n_items)` the items whose mean is wanted; None: all.
            parents: of each target, for a predictor that uses them.
            weights: `(n_items,)` one over the chance that an item is drawn, or a multiple of that; None: all alike.

        Raises:
            EstimationError: if shapes or values are wrong, or a weight is negative.
        """
        answers = Seen.of(seen, pool, self._size())
        if weights is not None and (weights.shape != seen.shape[1:] or (weights < 0).any()):
            raise EstimationError(f"weights are ({seen.shape[1]},) numbers, none negative; got {weights.shape}")
        f, held = self._predictions(answers, parents)
        w = np.where(answers.asked, 1.0 if weights is None else weights, 0.0)
        w = np.where(w.sum(1, keepdims=True) > 0, w, answers.asked)
        w = w / np.maximum(w.sum(1, keepdims=True), 1e-12)
        some = answers.n > 0

        def mean(values: Floats) -> Floats:
            return np.asarray((w * values).sum(1))

        y = np.where(answers.asked, answers.y, 0.0)
        level, expected = mean(y), mean(held)
        gap = np.where(answers.asked, held - expected[:, None], 0.0)
        spread = mean(gap**2)
        slope = np.divide(mean(gap * y), spread, out=np.ones_like(spread), where=spread > _LEAST_SPREAD)
        factor = np.clip((answers.n * slope + TUNED_FROM) / (answers.n + TUNED_FROM), 0.0, 1.0)
        open_items = np.maximum(answers.open.sum(1), 1)
        # Without an answer nothing corrects the predictor.
        shift = np.where(some, level - factor * expected, 0.0)
        factor = np.where(some, factor, 1.0)
        predicted = factor * np.where(answers.open, f, 0.0).sum(1) / open_items + shift
        total = (y.sum(1) + answers.open.sum(1) * predicted) / answers.size
        # The variance of the plain mean, times the part of the answers' variance that the predictor leaves; few answers
        # say little about either (Agresti and Coull 1998).
        left = np.where(answers.asked, y - level[:, None] - factor[:, None] * gap, 0.0)
        p = (np.clip(total, 0.0, 1.0) * answers.n + 2.0) / (answers.n + 4.0)
        variance, n = p * (1.0 - p), answers.n
        around = mean(np.where(answers.asked, (y - level[:, None]) ** 2, 0.0))
        variance *= (n * mean(left**2) + 4.0 * variance) / (n * around + 4.0 * variance)
        counts = 1.0 / np.maximum((w**2).sum(1), 1e-12)  # as many equal weights would have this variance (Kish 1965)
        counts = np.where(some, counts, 1.0)
        finite = np.clip((answers.size - answers.n) / np.maximum(answers.size - 1.0, 1.0), 0.0, 1.0)
        return answers.result(total, np.sqrt(variance / counts * finite))

    def _size(self) -> int:
        """Return the number of calibrated items."""
        raise NotImplementedError

    def _predictions(self, answers: Seen, parents: Parents | None) -> tuple[Floats, Floats]:
        """Return predictions for open items, and for answered ones without their answers, `(n_targets, n_items)`."""
        raise NotImplementedError


class AIPW(_Corrected):
    """The predictor is the posterior of `mixture`; without an answer it is what it would be had that not been given."""

    def fit(self, calibration: Responses, *, seed: int = 0) -> None:
        """Fit the mixture."""
        self._mixture = Mixture(calibrate=False)
        self._mixture.fit(calibration, seed=seed)

    def _size(self) -> int:
        return len(self._mixture.irt.items)

    def _predictions(self, answers: Seen, parents: Parents | None) -> tuple[Floats, Floats]:
        f, held = np.zeros(answers.asked.shape), np.zeros(answers.asked.shape)
        for some, posterior in self._mixture.posteriors(answers.asked | answers.open, parents):
            posterior.tell(np.where(answers.asked, answers.y, np.nan)[some])
            weights, P = posterior.weights(), posterior.atoms.P
            f[some] = weights @ P
            for row, target in enumerate(some.tolist()):
                items = np.flatnonzero(answers.asked[target])
                p, y = P[:, items], answers.y[target, items].astype(np.float32)
                # Bayes' rule backwards: each atom's weight divided by its chance of the one answer.
                without = weights[row][:, None] * np.exp(-np.float32(TEMPER) * (y * np.log(p) + (1 - y) * np.log1p(-p)))
                held[target, items] = (without * p).sum(0) / np.maximum(without.sum(0), 1e-30)
        return f, held


class RidgeAIPW(_Corrected):
    """The predictor is a ridge regression of a target's answers on those of the calibration models to the same items.

    Its penalty has the least leave-one-out error for the target.
    """

    def fit(self, calibration: Responses, *, seed: int = 0) -> None:
        """Keep the answers of the calibration models, with gaps filled by a Rasch model."""
        del seed
        self._X = filled(calibration.scores).T.copy()

    def _size(self) -> int:
        return len(self._X)

    def _predictions(self, answers: Seen, parents: Parents | None) -> tuple[Floats, Floats]:
        del parents
        shape = answers.asked.shape
        f, held = np.zeros(shape), np.zeros(shape)
        for target in range(shape[0]):
            items = np.flatnonzero(answers.asked[target])
            if len(items) < 2:  # a regression through one point is level
                f[target] = held[target] = self._X.mean(1)
                continue
            f[target], held[target, items] = self._regression(items, answers.y[target, items])
        return f, held

    def _regression(self, items: NDArray[np.int64], y: Floats) -> tuple[Floats, Floats]:
        x = self._X[items]
        centre, level, n = x.mean(0), y.mean(), len(items)
        # As many equations as answers: there are far more models than those.
        size, axes = np.linalg.eigh((x - centre) @ (x - centre).T)
        along = axes.T @ (y - level)
        best = (np.inf, y, y)
        for penalty in PENALTIES:
            ridge = penalty * max(float(size.sum()), 1e-9)
            gain = np.maximum(size, 0.0) / (np.maximum(size, 0.0) + ridge)
            leverage = 1.0 / n + (axes**2) @ gain
            left = (y - level - axes @ (gain * along)) / np.maximum(1.0 - leverage, 1e-3)
            error = float(np.mean(left**2))
            if error < best[0]:
                best = error, y - left, axes @ (along / (np.maximum(size, 0.0) + ridge))
        _, held, dual = best
        return level + (self._X - centre) @ ((x - centre).T @ dual), held
