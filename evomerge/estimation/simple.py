"""Estimators without item response theory: means, and a straight line through them."""

from __future__ import annotations

import numpy as np

from evomerge.errors import EstimationError
from evomerge.estimation.base import Estimate, Mask, Parents, Seen
from evomerge.estimation.irt import sigmoid
from evomerge.estimation.responses import Floats, Responses


def filled(R: Floats) -> Floats:
    """Return `(n_models, n_items)` responses with gaps filled by a Rasch model: logit p = row + column - all.

    The logits are those of the observed rates (PROX; Wright and Stone 1979, without its expansion factors).
    """
    known = ~np.isnan(R)
    y = np.where(known, R, 0.0)

    def logit(axis: int | None) -> Floats:
        right, n = y.sum(axis), known.sum(axis)
        return np.asarray(np.log((right + 0.5) / (n - right + 0.5)))

    p = sigmoid(logit(1)[:, None] + logit(0)[None, :] - logit(None))
    return np.where(known, R, p)


def sampling_se(rate: Floats, seen: Seen) -> Floats:
    """Return the standard error of a mean of answers drawn without replacement (Cochran 1977, eq. 2.20).

    The variance of one answer is taken at a rate drawn towards one half by two pseudo-answers of each kind (Agresti and
    Coull 1998), so that three right answers out of three do not count as certainty.
    """
    n = np.maximum(seen.n, 1)
    p = (np.clip(rate, 0.0, 1.0) * seen.n + 2) / (seen.n + 4)  # a regression may leave the possible range
    finite = np.clip((seen.size - seen.n) / np.maximum(seen.size - 1, 1), 0, 1)
    return np.asarray(np.sqrt(p * (1 - p) / n * finite))


class Mean:
    """The mean of the answers; unbiased where items were drawn at random."""

    def fit(self, calibration: Responses, *, seed: int = 0) -> None:
        """Keep the number of items; nothing else is learned."""
        del seed
        self._n_items = calibration.n_items

    def estimate(
        self, seen: Floats, *, pool: Mask | None = None, parents: Parents | None = None, weights: Floats | None = None
    ) -> Estimate:
        """Estimate targets; `parents` and `weights` are not used."""
        del parents, weights
        answers = Seen.of(seen, pool, self._n_items)
        mean = answers.observed()
        return answers.result(mean, sampling_se(mean, answers))


class Stratified:
    """Post-stratification: items in classes of difficulty, each class with its own mean (Cochran 1977, §5A.9).

    A class without an answer borrows the overall mean, shifted on the logit scale by how much harder the class is.
    """

    def __init__(self, *, strata: int = 5) -> None:
        self._strata = strata

    def fit(self, calibration: Responses, *, seed: int = 0) -> None:
        """Sort the items by how many calibration models solve them."""
        del seed
        rate = filled(calibration.scores).mean(0)
        order = np.argsort(rate, kind="stable")
        self._class = np.empty(len(rate), dtype=np.int64)
        for number, part in enumerate(np.array_split(order, min(self._strata, len(rate)))):
            self._class[part] = number
        edged = np.clip(rate, 0.02, 0.98)
        self._logit = np.log(edged / (1 - edged))

    def estimate(
        self, seen: Floats, *, pool: Mask | None = None, parents: Parents | None = None, weights: Floats | None = None
    ) -> Estimate:
        """Estimate targets; `parents` and `weights` are not used."""
        del parents, weights
        answers = Seen.of(seen, pool, len(self._class))
        # All items are shifted alike on the logit scale, so that the expected successes among those asked are right.
        shift = np.zeros(len(answers.n))
        for _ in range(50):
            p = sigmoid(self._logit[None] + shift[:, None])
            excess = ((answers.y - p) * answers.asked).sum(1) - 0.1 * shift
            slope = (p * (1 - p) * answers.asked).sum(1) + 0.1
            shift = np.clip(shift + np.clip(excess / slope, -1, 1), -12, 12)
        base = sigmoid(self._logit[None] + shift[:, None])
        mean = answers.y.sum(1)
        variance = np.zeros(len(mean))
        for number in range(int(self._class.max()) + 1):
            here = self._class == number
            n, left = answers.asked[:, here].sum(1), answers.open[:, here].sum(1)
            expected = (base * answers.open)[:, here].sum(1) / np.maximum(left, 1)
            # The expected rate of the class counts like one answer beside its n answers.
            rate = (answers.y[:, here].sum(1) + expected) / (n + 1)
            mean += left * rate
            safe = (rate * n + 1) / (n + 2)
            variance += left * safe * (1 - safe) * (1 + left / (n + 1))
        return answers.result(mean / answers.size, np.sqrt(variance) / answers.size)


class Weighted:
    """Anchors (Vivek et al. 2024): each answer stands for its cluster of items, sum_i w_i y_i."""

    def fit(self, calibration: Responses, *, seed: int = 0) -> None:
        """Keep the calibration models, on which the error of the weights is measured."""
        del seed
        self._X = filled(calibration.scores)

    def estimate(
        self, seen: Floats, *, pool: Mask | None = None, parents: Parents | None = None, weights: Floats | None = None
    ) -> Estimate:
        """Estimate targets; None for `weights`: equal weights. `parents` are not used.

        Raises:
            EstimationError: if the weights have another shape, or one is negative.
        """
        del parents
        answers = Seen.of(seen, pool, self._X.shape[1])
        if weights is None:
            weights = np.ones(self._X.shape[1])
        if weights.shape != (self._X.shape[1],) or (weights < 0).any():
            raise EstimationError(f"weights are ({self._X.shape[1]},) numbers, none negative; got {weights.shape}")
        w = np.where(answers.asked, weights, 0.0)
        total = w.sum(1, keepdims=True)
        # Where no answer has a weight, the plain mean of the answers stands in.
        w = np.where(total > 0, w, answers.asked)
        w = w / np.maximum(w.sum(1, keepdims=True), 1e-12)
        mean = np.where(answers.n > 0, (w * answers.y).sum(1), 0.5)
        p = (mean * answers.n + 2) / (answers.n + 4)
        variance = p * (1 - p) * (w**2).sum(1)
        finite = answers.open.sum(1) / answers.size
        if len(self._X) >= 10:  # enough models to measure the error of the weights
            variance = ((self._X @ w.T - self._X.mean(1)[:, None]) ** 2).mean(0)
            finite = np.ones(len(mean))
        mean = np.where(answers.open.any(1), mean, answers.combine(np.zeros_like(seen)))
        return answers.result(mean, np.sqrt(np.where(answers.n > 0, variance, 0.25) * finite))
