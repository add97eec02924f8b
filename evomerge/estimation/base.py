"""What an estimator is: fitted on calibration models, it turns a few answers of a model into its score on all items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import EstimationError
from evomerge.estimation.responses import Floats, Responses

Mask = NDArray[np.bool_]
Parents = Sequence[Responses | None]
"""For each target, the rows of its parents over the same items, or None where its parents are not known."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """The estimated mean score of each target over all items.

    Attributes:
        mean: `(n_targets,)` estimates in [0, 1].
        se: `(n_targets,)` standard errors; 0 where every item was answered.
        low: `(n_targets,)` the least score that the answers allow (every open item failed).
        high: `(n_targets,)` the highest score that they allow (every open item solved).
    """

    mean: Floats
    se: Floats
    low: Floats
    high: Floats

    def interval(self, level: float = 0.9) -> tuple[Floats, Floats]:
        """Return lower and upper bounds, each `(n_targets,)`, between which the score lies with probability `level`.

        They stay within what the answers allow.

        Raises:
            EstimationError: if the level does not lie between 0 and 1.
        """
        if not 0 < level < 1:
            raise EstimationError(f"the level of an interval lies between 0 and 1; got {level}")
        width = NormalDist().inv_cdf(0.5 + level / 2) * self.se
        return np.clip(self.mean - width, self.low, self.high), np.clip(self.mean + width, self.low, self.high)


class Estimator(Protocol):
    """The contract of an estimator, which holds no random state besides the seed given to `fit`."""

    def fit(self, calibration: Responses, *, seed: int = 0) -> None:
        """Learn from models whose responses are known (some may be missing)."""

    def estimate(
        self, seen: Floats, *, pool: Mask | None = None, parents: Parents | None = None, weights: Floats | None = None
    ) -> Estimate:
        """Estimate targets.

        Args:
            seen: `(n_targets, n_items)` answers over the calibration's items; NaN: not asked.
            pool: `(n_targets, n_items)` the items whose mean is wanted; None: all.
            parents: rows of each target's parents; not every estimator uses them.
            weights: `(n_items,)` what an answer to each item stands for, from a choice of anchors; not every estimator
                uses them.

        Raises:
            EstimationError: if shapes or values are wrong.
        """


@dataclass(frozen=True, eq=False)
class Seen:
    """The checked answers and open items, from which every estimator starts.

    Attributes:
        asked: `(n_targets, n_items)` answered items of the pool.
        y: `(n_targets, n_items)` their scores, 0 elsewhere.
        open: `(n_targets, n_items)` items of the pool that were not answered.
        n: `(n_targets,)` number of answers.
        size: `(n_targets,)` number of items whose mean is wanted.
    """

    asked: Mask
    y: Floats
    open: Mask
    n: Floats
    size: Floats

    @classmethod
    def of(cls, seen: Floats, pool: Mask | None, n_items: int) -> Seen:
        """Check the shapes and values, and divide the items of the pool into answered and open ones.

        Raises:
            EstimationError: if a shape or a value is wrong, an answer lies outside of the pool, or a pool is empty.
        """
        if seen.ndim != 2 or seen.shape[1] != n_items:
            raise EstimationError(f"answers need one column for each of {n_items} calibrated items; got {seen.shape}")
        if pool is None:
            pool = np.ones(seen.shape, dtype=bool)
        if pool.shape != seen.shape:
            raise EstimationError(f"the pool must have the shape of the answers, {seen.shape}; got {pool.shape}")
        asked = ~np.isnan(seen)
        if np.any(asked & ~((seen >= 0) & (seen <= 1))):
            raise EstimationError("answers are scores in [0, 1]; some lie outside")
        if np.any(asked & ~pool):
            raise EstimationError("a target has an answer to an item that is not in its pool")
        if not pool.any(1).all():
            raise EstimationError("a target has no item to estimate its mean over: its pool is empty")
        counts = asked.sum(1).astype(np.float64), pool.sum(1).astype(np.float64)
        return cls(asked, np.where(asked, seen, 0.0), pool & ~asked, *counts)

    def observed(self) -> Floats:
        """Return the `(n_targets,)` plain means of the answers; one half where there are none."""
        return np.divide(self.y.sum(1), self.n, out=np.full(len(self.n), 0.5), where=self.n > 0)

    def result(self, mean: Floats, se: Floats) -> Estimate:
        """Return the estimate from `(n_targets,)` means and errors, limited to what the answers allow.

        Its error is 0 where no item is open.
        """
        low = self.y.sum(1) / self.size
        high = (self.y.sum(1) + self.open.sum(1)) / self.size
        # A score within the possible range deviates from its middle by half of the range at most.
        se = np.minimum(se, (high - low) / 2)
        return Estimate(np.clip(mean, low, high), np.where(self.open.any(1), se, 0.0), low, high)

    def combine(self, p: Floats) -> Floats:
        """Return `(n_targets,)` means over the pool, of the answers and, for open items, of predictions.

        Args:
            p: `(n_targets, n_items)` predictions.
        """
        return np.asarray((self.y.sum(1) + np.where(self.open, p, 0.0).sum(1)) / self.size)
