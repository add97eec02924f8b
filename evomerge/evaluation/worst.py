"""The worst of several entries, each relative to its best parent: its value, its interval, and how two models differ.

    W = min_k r_k,    r_k = 1 + s_k (m_k - b_k) / |b_k|    (`floor.relative`)

with m_k the model's mean of entry k, b_k the best parent's on the same items, and s_k = +1 to maximize, -1 to minimize.
Where the metric is a share of right answers r_k is m_k / b_k, the normalized accuracy of the literature on merging.

**A minimum is no mean.** It has no weights, and the minimum of noisy ratios lies, on average, below that of the true
ones: with k equally good entries of standard error e by about 0.56 e (two) to 1.16 e (five). More items help.

**One ratio.** Model and best parent answered the same items, so r_k is a ratio of paired means. Shares of right answers
have the hybrid Wilson score interval of Bonett & Price (2006, Statistics in Medicine 25:3039), which holds its level
for few items and where all are right; other metrics have Student's interval of the linear form of the ratio (the delta
method). Where no parent scores anything the metric's own interval counts.

**The worst of them.** Its lower end is the smallest lower end: W lies below it only if the truly worst entry lies below
its own lower end. Its upper end is the smallest upper end, each at Šidák's level for k entries, since W lies above it
as soon as one entry lies above its own.

**Two models.** The two worst ratios are combined by MOVER (Zou & Donner 2008, eq. 3) with their correlation: that of
the linear forms where both are of the same task, and none otherwise, since tasks have items of their own. As in
Newcombe's method for paired proportions (1998, Statistics in Medicine 17:2635, method 10) the correlation is made
smaller by what n items may fail to show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from evomerge.evaluation.floor import relative
from evomerge.evaluation.intervals import Z, equal, mean_score, standard_error, student_deviate, unseen, wilson
from evomerge.record import Score

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """A model's mean of one entry relative to the best parent's.

    Attributes:
        task: whose items they are; entries of one task share its items.
        values: `(n_items,)`, the model's.
        best: `(n_items,)`, the best parent's on the same items.
        sign: +1 to maximize, -1 to minimize.
    """

    task: str
    values: Floats
    best: Floats
    sign: float = 1.0

    @cached_property
    def mean(self) -> float:
        """The ratio r."""
        return relative(_mean(self.values), _mean(self.best), self.sign)

    @cached_property
    def forms(self) -> Floats:
        """The linear form of the ratio, `(n_items,)`: its mean is 0, and its standard error that of the ratio."""
        m, b = _mean(self.values), _mean(self.best)
        own = self.values - m
        return self.sign * (own if b == 0.0 else (own - m / b * (self.best - b)) / abs(b))

    @cached_property
    def _best_mean(self) -> float:
        return _mean(self.best)

    @cached_property
    def _counts(self) -> tuple[float, float, float, float] | None:
        """What `paired_ratio` goes by; None: not all values are 0 or 1."""
        one, two = self.values, self.best
        if not np.isin(np.concatenate([one, two]), (0.0, 1.0)).all():
            return None
        some, apart = np.count_nonzero((one > 0.0) | (two > 0.0)), np.count_nonzero(one != two)
        return float(one.sum()), float(two.sum()), float(some), float(apart)

    @cached_property
    def _spread(self) -> float | None:
        """The standard error of the linear form; None: it is the same for all items, or there is one item."""
        forms = self.forms.tolist()
        varies = len(forms) > 1 and not equal([1.0 + one for one in forms])
        return standard_error(forms, 0.0) if varies else None

    def interval(self, z: float = Z) -> Score:
        """Return the ratio with its interval of the level of `z`."""
        b, n = self._best_mean, len(self.values)
        if b == 0.0:
            plain = mean_score(self.values.tolist(), z=z)
            ends = 1.0 + self.sign * plain.low, 1.0 + self.sign * plain.high
            return Score(self.mean, min(ends), max(ends), n)
        if self._counts is not None:
            low, high = paired_ratio(*self._counts, z=z)
            low, high = (low, high) if self.sign > 0.0 else (2.0 - high, 2.0 - low)
            return Score(self.mean, min(low, self.mean), max(high, self.mean), n)
        if self._spread is not None:
            half = student_deviate(z, n - 1) * self._spread
        else:  # no spread, although the next item may differ
            least = float(min(self.values.min(), self.best.min()))
            most = float(max(self.values.max(), self.best.max()))
            within = least >= 0.0 and most <= 1.0
            half = math.inf if n == 1 and not within else unseen(n, z=z) * (1.0 if within else most - least) / abs(b)
        return Score(self.mean, self.mean - half, self.mean + half, n)


def paired_ratio(one: float, two: float, some: float, apart: float, *, z: float = Z) -> tuple[float, float]:
    """Return the interval of a ratio of paired proportions by Bonett & Price (2006), for 0/1 values.

    Args:
        one: how many items the model of the numerator has right.
        two: how many that of the denominator has right; at least one.
        some: how many at least one of them has right.
        apart: how many just one of them has right.
        z: of the interval's level.
    """
    both = math.sqrt((apart + 2.0) / ((one + 1.0) * (two + 1.0)))
    each = [math.sqrt((1.0 - (n + 1.0) / (some + 2.0)) / (n + 1.0)) for n in (one, two)]
    z = z * both / sum(each)
    (low, high), (least, most) = wilson(one, round(some), z=z), wilson(two, round(some), z=z)
    return low / most, high / least


def worst(ratios: Sequence[Ratio]) -> float:
    """Return the worst of the ratios."""
    return min(one.mean for one in ratios)


def worst_score(ratios: Sequence[Ratio], z: float = Z) -> Score:
    """Return the worst of the ratios with its interval of the level of `z`, and how many items are behind them all."""
    upper = upper_z(z, len(ratios))
    return smallest([one.interval(z) for one in ratios], [one.interval(upper) for one in ratios])


def smallest(lower: Sequence[Score], upper: Sequence[Score]) -> Score:
    """Return the smallest of some numbers with its interval.

    Args:
        lower: each with its interval of the level wanted, whose lower ends count.
        upper: the same numbers with intervals of the level of `upper_z`, whose upper ends count.
    """
    mean = min(one.mean for one in lower)
    low, high = min(one.low for one in lower), min(one.high for one in upper)
    return Score(mean, min(low, mean), max(high, mean), sum(one.n for one in lower))


def estimated_ratio(own: Score, best: Score, sign: float = 1.0) -> Score:
    """Return a ratio with its interval where the model's mean is an estimate, so that its values are not known.

    Model and parent are taken as independent (MOVER for the linear form of the ratio), which is wider than if they
    agree on items.

    Args:
        own: the model's estimated mean with its interval.
        best: the best parent's mean with its interval of the same level.
        sign: +1 to maximize, -1 to minimize.
    """
    mean, unit = relative(own.mean, best.mean, sign), abs(best.mean) or 1.0
    slope = own.mean / best.mean if best.mean else 0.0
    fall, rise = best.mean - best.low, best.high - best.mean
    if slope < 0.0:
        fall, rise = rise, fall
    down = math.hypot(own.mean - own.low, slope * rise) / unit
    up = math.hypot(own.high - own.mean, slope * fall) / unit
    return Score(mean, mean - down, mean + up, own.n) if sign > 0.0 else Score(mean, mean - up, mean + down, own.n)


def upper_z(z: float, k: int) -> float:
    """Return the z of each of k upper ends so that all k hold together at the level of `z` (Šidák 1967)."""
    tail = math.erfc(z / math.sqrt(2.0)) / 2.0
    if k == 1 or not 0.0 < tail < 1.0:
        return z
    return -NormalDist().inv_cdf(max(-math.expm1(math.log1p(-tail) / k), 1e-300))


def worst_difference(first: Sequence[Ratio], second: Sequence[Ratio], z: float = Z) -> Score:
    """Return the difference of two models' worst ratios, the first's minus the second's, with its interval.

    Args:
        first: of the first model.
        second: of the second model, the same entries on the same items in the same order.
        z: of the interval's level.
    """
    a, b = worst_score(first, z), worst_score(second, z)
    shared = correlation(_least(first), _least(second)) * (1.0 - unseen(len(_least(first).values), z=z))
    low = _mover(a.mean - a.low, b.high - b.mean, shared)
    high = _mover(a.high - a.mean, b.mean - b.low, shared)
    return Score(a.mean - b.mean, a.mean - b.mean - low, a.mean - b.mean + high, a.n)


def difference_error(first: Sequence[Ratio], second: Sequence[Ratio]) -> float:
    """Return the standard error of the difference of two models' worst ratios, by their linear forms."""
    a, b = _least(first), _least(second)
    if _paired(a, b):
        return _error(a.forms - b.forms)
    return math.hypot(_error(a.forms), _error(b.forms))


def correlation(first: Ratio, second: Ratio) -> float:
    """Return the correlation of two ratios on the same items; 0 if their tasks differ, or one has no spread."""
    if not _paired(first, second):
        return 0.0
    spread = math.sqrt(float(first.forms @ first.forms) * float(second.forms @ second.forms))
    return float(first.forms @ second.forms) / spread if spread > 0.0 else 0.0


def _least(ratios: Sequence[Ratio]) -> Ratio:
    return min(ratios, key=lambda one: one.mean)


def _paired(first: Ratio, second: Ratio) -> bool:
    return first.task == second.task and len(first.values) == len(second.values)


def _error(forms: Floats) -> float:
    n = len(forms)
    return math.sqrt(float(forms.var(ddof=1)) / n) if n > 1 else 0.0


def _mover(one: float, other: float, shared: float) -> float:
    if math.isinf(one) or math.isinf(other):
        return math.inf
    return math.sqrt(max(one * one - 2.0 * shared * one * other + other * other, 0.0))


def _mean(values: Floats) -> float:
    return math.fsum(values.tolist()) / len(values)
