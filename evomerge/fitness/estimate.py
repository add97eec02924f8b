"""From a candidate's answers to what it would score on all items: the estimators that a search can use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evomerge.fitness.model import RunModel

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Guess:
    """The mean of all items of a term, estimated: with its standard error, and each item's expected answer."""

    mean: float
    error: float
    expected: Array


class RunEstimator(Protocol):
    """Estimates candidates of one run on one term; fitted again and again as the run goes on."""

    def fit(self, references: Array, answers: Array, points: Sequence[Array | None]) -> None:
        """Learn from the run so far.

        Args:
            references: `(n_references, n_items)`, answers of the parents and their average to every item.
            answers: `(n_candidates, n_items)`, NaN where not answered.
            points: genome of each candidate in the unit cube; None where it has none in the present space.
        """
        ...

    def estimate(self, point: Array | None, answers: Array) -> Guess:
        """Estimate one candidate from its `(n_items,)` answers, NaN where not answered.

        With every item answered, the estimate is the mean and its error 0.
        """
        ...


class MeanEstimator:
    """The mean of the answers: what is reported where nothing is modelled. Unbiased for items chosen at random.

    Its error is that of sampling without replacement; a share keeps away from an error of 0 by one success and one
    failure more (Agresti and Coull 1998, with one instead of two).
    """

    def fit(self, references: Array, answers: Array, points: Sequence[Array | None]) -> None:
        """Keep how often the references are right, which is what is expected where nothing was answered."""
        self._level = references.mean(axis=0)

    def estimate(self, point: Array | None, answers: Array) -> Guess:
        """Return the mean of the answers that there are."""
        seen = ~np.isnan(answers)
        n, n_items = int(seen.sum()), len(answers)
        if n == 0:
            return Guess(float(self._level.mean()), math.inf, self._level)
        values = answers[seen]
        mean = float(values.mean())
        if ((values == 0.0) | (values == 1.0)).all():
            share = (float(values.sum()) + 1.0) / (n + 2.0)
            variance = share * (1.0 - share)
        else:
            variance = float(values.var(ddof=1)) if n > 1 else math.inf
        error = 0.0 if n == n_items else math.sqrt(variance / n * (1.0 - n / n_items))
        return Guess(mean, error, np.where(seen, answers, mean))


class ModelEstimator:
    """The model of the run (see `evomerge.fitness.model`): parents, genome and earlier candidates are its prior."""

    def fit(self, references: Array, answers: Array, points: Sequence[Array | None]) -> None:
        """Fit the model."""
        self._model = RunModel(references)
        self._model.fit(answers, points)
        self._weights = np.full(references.shape[1], 1.0 / references.shape[1])

    def estimate(self, point: Array | None, answers: Array) -> Guess:
        """Return seen answers and expected ones together."""
        prediction = self._model.predict(point, answers)
        mean, error = prediction.total(self._weights)
        return Guess(mean, error, prediction.mean)


OWN: dict[str, type[MeanEstimator] | type[ModelEstimator]] = {"mean": MeanEstimator, "model": ModelEstimator}
"""The estimators made for searches; by other names, those of `evomerge.estimation`."""


def make_run_estimator(name: str, seed: int = 0) -> RunEstimator:
    """Return a new estimator by its name.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name in OWN:
        return OWN[name]()
    from evomerge.fitness.calibrated import CalibratedEstimator, find_estimator

    return CalibratedEstimator(find_estimator(name), seed)
