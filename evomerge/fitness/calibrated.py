"""The estimators of `evomerge.estimation` inside a search: calibrated on the parents and on earlier candidates."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import ConfigError, EstimationError
from evomerge.estimation import Estimator, Responses, make_estimator
from evomerge.fitness.estimate import Guess, ModelEstimator

Array = NDArray[np.float64]
log = logging.getLogger(__name__)


class CalibratedEstimator:
    """Turns an estimator for any models into one for the candidates of a run; parents are known to it as parents.

    Args:
        make: makes the estimator.
        seed: for what it draws while it is fitted.
    """

    def __init__(self, make: Callable[[], Estimator], seed: int = 0) -> None:
        self._make = make
        self._seed = seed

    def fit(self, references: Array, answers: Array, points: Sequence[Array | None]) -> None:
        """Fit a new estimator to all rows that there are; where candidates stand in the space it does not use.

        Where it cannot be fitted (too few models yet, answers that are no shares) the model of the run stands in.
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
        """Estimate one candidate; what is expected of single items is what the references answered."""
        if self._stand_in is not None:
            return self._stand_in.estimate(point, answers)
        seen = ~np.isnan(answers)
        expected = np.where(seen, answers, self._level)
        if seen.all():
            return Guess(float(answers.mean()), 0.0, expected)
        found = self._estimator.estimate(answers[None], parents=[self._parents])
        return Guess(float(found.mean[0]), float(found.se[0]), expected)


def find_estimator(name: str) -> Callable[[], Estimator]:
    """Return what makes an estimator: of `evomerge.estimation` by its name, or your own by "module:Class".

    Raises:
        ConfigError: if there is none.
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        try:
            make_estimator(name)
        except EstimationError as error:
            raise ConfigError(f"fitness.estimator: {error}") from error
        return lambda: make_estimator(name)
    try:
        return cast("Callable[[], Estimator]", getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"fitness.estimator {name!r} cannot be imported: {error}") from error
