"""The estimators of a search: from a candidate's answers to its score on all items."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import ConfigError, EstimationError
from evomerge.estimation.base import Estimator
from evomerge.estimation.registry import BUILT_IN, GROUP
from evomerge.estimation.responses import Responses
from evomerge.estimation.run_model import RunModel
from evomerge.system.registry import Registry

Array = NDArray[np.float64]

log = logging.getLogger(__name__)

SMALLEST, LARGEST = 2.0**-10, 2.0**16
"""Between these the largest answer of the references has the size of a score (or of a count of tokens)."""

FAR = 10.0
"""So many times the range of the references' answers, or their size, an answer may lie beyond them and be fitted."""


@dataclass(frozen=True)
class Guess:
    """The estimated mean of a term over all its items, with standard error and each item's expected answer."""

    mean: float
    error: float
    expected: Array


class RunEstimator(Protocol):
    """Estimates candidates of one run on one term; it is fitted again whenever a generation begins."""

    def fit(self, references: Array, answers: Array, points: Sequence[Array | None]) -> None:
        """Learn from the run so far.

        Args:
            references: `(n_references, n_items)`, answers of the parents and their average to every item.
            answers: `(n_candidates, n_items)`, NaN where not answered.
            points: for each candidate its `(n_dims,)` point in the unit cube; None: it has none in the present space.
        """
        ...

    def estimate(self, point: Array | None, answers: Array) -> Guess:
        """Estimate one candidate from its `(n_items,)` answers, NaN where not answered.

        If every item was answered, the estimate is the mean, with error 0.
        """
        ...


class MeanEstimator:
    """The mean of the answers, without a model; unbiased for items chosen at random.

    Its error is that of sampling without replacement. For a share of right answers, one more success and one more
    failure keep the error above 0 (Agresti and Coull 1998, with one instead of two).
    """

    def fit(self, references: Array, answers: Array, points: Sequence[Array | None]) -> None:
        """Keep how often the references are right, which is expected of a candidate without answers."""
        self._level = references.mean(axis=0)

    def estimate(self, point: Array | None, answers: Array) -> Guess:
        """Return the mean of the candidate's answers."""
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
    """The model of the run (`evomerge.estimation.run_model`), from parents, genomes and earlier candidates.

    The model is made for numbers of the size of scores, so those of another size are divided first, by a power of two,
    which rounds nothing; and answers far beyond all of the references' (a perplexity that exploded) are fitted as if
    they were at the end of `FAR`, so that one broken candidate does not spoil the model of all others.
    """

    def fit(self, references: Array, answers: Array, points: Sequence[Array | None]) -> None:
        """Fit the model."""
        low, high = float(references.min()), float(references.max())
        reach = FAR * max(high - low, abs(low), abs(high), 1.0 if low == high == 0.0 else 0.0)
        self._low, self._high = low - reach, high + reach
        largest = max(abs(low), abs(high))
        self._scale = 1.0 if SMALLEST <= largest <= LARGEST or largest == 0.0 else 2.0 ** math.frexp(largest)[1]
        self._model = RunModel(references / self._scale)
        self._model.fit(self._near(answers), points)
        self._weights = np.full(references.shape[1], 1.0 / references.shape[1])

    def estimate(self, point: Array | None, answers: Array) -> Guess:
        """Return the estimate from the answers that were given and those that are expected."""
        near = self._near(answers)
        prediction = self._model.predict(point, near)
        mean, error = prediction.total(self._weights)
        far = float(np.nansum((answers / self._scale - near) * self._weights))  # 0 but for answers that are far off
        return Guess((mean + far) * self._scale, error * self._scale, prediction.mean * self._scale)

    def _near(self, answers: Array) -> Array:
        near: Array = np.clip(answers, self._low, self._high) / self._scale
        return near


RUN_ESTIMATORS: Registry[Callable[..., Any]] = Registry(
    "estimator",
    {
        **BUILT_IN,
        "mean": "evomerge.estimation.run_estimators:MeanEstimator",
        "model": "evomerge.estimation.run_estimators:ModelEstimator",
    },
    group=GROUP,
)
"""The estimators of a search: two that are made for runs, and all those of `evomerge.estimation.registry`."""

_MADE_FOR_SEARCHES = ("mean", "model")


def make_run_estimator(name: str, seed: int = 0) -> RunEstimator:
    """Return a new estimator for the candidates of a run.

    Args:
        name: a name in `RUN_ESTIMATORS`, or "module:Class" or "path/to/file.py:Class" of an `Estimator`.
        seed: for what it draws while it is fitted.

    Raises:
        ConfigError: if there is no estimator of that name, or it cannot be imported.
    """
    try:
        make = RUN_ESTIMATORS.find(name)
    except ConfigError as error:
        raise ConfigError(f"fitness.estimator: {error}") from error
    if name in _MADE_FOR_SEARCHES:
        made: RunEstimator = make()
        return made
    return CalibratedEstimator(make, seed)


class CalibratedEstimator:
    """Makes an estimator for any models one for the candidates of a run; the run's parents are their parents.

    Args:
        make: makes the estimator.
        seed: for what it draws while it is fitted.
    """

    def __init__(self, make: Callable[[], Estimator], seed: int = 0) -> None:
        self._make = make
        self._seed = seed

    def fit(self, references: Array, answers: Array, points: Sequence[Array | None]) -> None:
        """Fit a new estimator to all rows; the candidates' points are not used.

        The model of the run stands in where the estimator cannot be fitted, because there are too few models yet or
        answers lie outside of [0, 1].
        """
        items = tuple(f"item/{place}" for place in range(references.shape[1]))
        self._parents = Responses(tuple(f"reference {k}" for k in range(len(references))), items, references)
        self._level = references.mean(axis=0)
        answered = answers[~np.isnan(answers).all(axis=1)]
        names = tuple(f"candidate {k}" for k in range(len(answered)))
        self._stand_in: ModelEstimator | None = None
        try:
            known = self._parents.joined(Responses(names, items, answered)) if names else self._parents
            self._estimator = self._make()
            self._estimator.fit(known, seed=self._seed)
        except EstimationError as error:
            log.info("the model of the run stands in for the estimator: %s", error)
            self._stand_in = ModelEstimator()
            self._stand_in.fit(references, answers, points)

    def estimate(self, point: Array | None, answers: Array) -> Guess:
        """Estimate one candidate; the expected answers to single items are those of the references."""
        if self._stand_in is not None:
            return self._stand_in.estimate(point, answers)
        seen = ~np.isnan(answers)
        expected = np.where(seen, answers, self._level)
        if seen.all():
            return Guess(float(answers.mean()), 0.0, expected)
        found = self._estimator.estimate(answers[None], parents=[self._parents])
        return Guess(float(found.mean[0]), float(found.se[0]), expected)
