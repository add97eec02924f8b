"""Estimators that are linear in the answers: the calibrated mean and ridge regression on responses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import EstimationError
from evomerge.estimation.base import Estimate, Mask, Parents, Seen
from evomerge.estimation.responses import Floats, Responses
from evomerge.estimation.simple import filled, sampling_se

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Ridge penalties to choose from, in units of the variance of one answer times the number of models."""


def same_items(asked: Mask) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield groups of targets that were asked the same items: the targets' numbers and the items' numbers."""
    groups: dict[bytes, list[int]] = {}
    for target, row in enumerate(asked):
        groups.setdefault(row.tobytes(), []).append(target)
    for members in groups.values():
        yield np.array(members), np.flatnonzero(asked[members[0]])


class _Linear:
    """The common part of both estimators: complete calibration responses, and one regression for each set of items."""

    def fit(self, calibration: Responses, *, seed: int = 0) -> None:
        """Keep the calibration models, with gaps filled by a Rasch model.

        Raises:
            EstimationError: if there are fewer than 3 of them.
        """
        del seed
        if calibration.n_models < 3:
            raise EstimationError(
                f"a regression needs at least 3 calibration models; got {calibration.n_models}. Use 'mixture' or 'mean'"
            )
        self._X = filled(calibration.scores)

    def estimate(
        self, seen: Floats, *, pool: Mask | None = None, parents: Parents | None = None, weights: Floats | None = None
    ) -> Estimate:
        """Estimate targets; `parents` and `weights` are not used."""
        del parents, weights
        answers = Seen.of(seen, pool, self._X.shape[1])
        mean, se = np.zeros(len(seen)), np.zeros(len(seen))
        for members, items in same_items(answers.asked):
            mean[members], se[members] = self._predict(answers.y[members][:, items], items)
        mean = np.where(answers.open.any(1), mean, answers.combine(np.zeros_like(seen)))
        return answers.result(mean, np.maximum(se, 0.5 * sampling_se(mean, answers) * answers.open.mean(1)))

    def _predict(self, y: Floats, items: NDArray[np.int64]) -> tuple[Floats, float]:
        F = self._X.mean(1)
        if not len(items):
            return np.full(len(y), F.mean()), float(F.std(ddof=1))
        x = self._features(self._X[:, items])
        centre, level = x.mean(0), F.mean()
        # One singular value decomposition gives the fit and its leave-one-out errors for all penalties.
        U, s, Vt = np.linalg.svd(x - centre, full_matrices=False)
        best = (np.inf, 0.0)
        for penalty in self._penalties():
            ridge = penalty * len(F) * max(x.var(), 1e-9)
            gain = s**2 / np.maximum(s**2 + ridge, 1e-12)
            leverage = 1 / len(F) + (U**2) @ gain
            residual = F - level - U @ (gain * (U.T @ (F - level)))
            error = float(np.mean((residual / np.maximum(1 - leverage, 1e-3)) ** 2))
            best = min(best, (error, ridge))
        error, ridge = best
        slope = Vt.T @ (s / np.maximum(s**2 + ridge, 1e-12) * (U.T @ (F - level)))
        return level + (self._features(y) - centre) @ slope, float(np.sqrt(error))

    def _features(self, y: Floats) -> Floats:
        raise NotImplementedError

    def _penalties(self) -> tuple[float, ...]:
        raise NotImplementedError


class CalibratedMean(_Linear):
    """The mean of the answers, put through the straight line that fits the calibration models."""

    def _features(self, y: Floats) -> Floats:
        return y.mean(1, keepdims=True)

    def _penalties(self) -> tuple[float, ...]:
        return (0.0,)


class Ridge(_Linear):
    """Ridge regression of the score on the answers; the penalty minimises the leave-one-out error (Allen 1974)."""

    def _features(self, y: Floats) -> Floats:
        return y

    def _penalties(self) -> tuple[float, ...]:
        return PENALTIES
