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
"""For each target the rows of its parents (over the same items), or None where they are not known."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Mean score over all items of each target, as far as its answers tell.

    Attributes:
        mean: (T,) estimates in [0, 1].
        se: (T,) standard errors; 0 where every item was answered.
        low: (T,) the least score that the answers allow (every open item failed).
        high: (T,) the highest (every open item solved).
    """

    mean: Floats
    se: Floats
    low: Floats
    high: Floats

    def interval(self, level: float = 0.9) -> tuple[Floats, Floats]:
        """Bounds (T,), (T,) that hold the score with probability `level`, within what the answers allow."""
        if not 0 < level < 1:
            raise EstimationError(f"the level of an interval lies between 0 and 1; got {level}")
        width = NormalDist().inv_cdf(0.5 + level / 2) * self.se
        return np.clip(self.mean - width, self.low, self.high), np.clip(self.mean + width, self.low, self.high)


class Estimator(Protocol):
    """The contract. An estimator holds no random state besides the seed given to `fit`."""

    def fit(self, calibration: Responses, *, seed: int = 0) -> None:
        """Learn from models whose responses are known (some may be missing)."""

    def estimate(
        self, seen: Floats, *, pool: Mask | None = None, parents: Parents | None = None, weights: Floats | None = None
    ) -> Estimate:
        """Estimate targets.

        Args:
            seen: (T, N) answers over the calibration's items; NaN was not asked.
            pool: (T, N) the items whose mean is wanted; by default all.
            parents: rows of each target's parents; estimators that do not use them ignore it.
            weights: (N,) what an answer to each item stands for, from a choice of anchors; likewise.
        """


@dataclass(frozen=True, eq=False)
class Seen:
    """Answers and what is open, checked: what every estimator starts from.

    Attributes:
        asked: (T, N) answered items of the pool.
        y: (T, N) their scores, 0 elsewhere.
        open: (T, N) items of the pool that were not answered.
        n: (T,) number of answers.
        size: (T,) number of items whose mean is wanted.
    """

    asked: Mask
    y: Floats
    open: Mask
    n: Floats
    size: Floats

    @classmethod
    def of(cls, seen: Floats, pool: Mask | None, n_items: int) -> Seen:
        """Check the shapes and values, and split the items of the pool into answered and open ones."""
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
        """(T,) plain mean of the answers; one half where there is none."""
        return np.divide(self.y.sum(1), self.n, out=np.full(len(self.n), 0.5), where=self.n > 0)

    def result(self, mean: Floats, se: Floats) -> Estimate:
        """The estimate within what is possible, with no error left where nothing is open."""
        low = self.y.sum(1) / self.size
        high = (self.y.sum(1) + self.open.sum(1)) / self.size
        # se <= half of the possible range, the largest deviation that a score within it can have around its middle
        se = np.minimum(se, (high - low) / 2)
        return Estimate(np.clip(mean, low, high), np.where(self.open.any(1), se, 0.0), low, high)

    def combine(self, p: Floats) -> Floats:
        """(T,) mean over the pool of the answers and, for open items, of predictions `p` (T, N)."""
        return np.asarray((self.y.sum(1) + np.where(self.open, p, 0.0).sum(1)) / self.size)
