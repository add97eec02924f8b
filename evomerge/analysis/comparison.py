"""The paired difference of two models on the same items, with its 95 % interval and a p-value.

Two models that answer the same items mostly agree, so the difference of their means is far more certain than two
separate intervals suggest: only the items on which they differ count.

- One task with a 0/1 metric: Tango's score interval (Tango 1998, Statistics in Medicine 17:891), which keeps its level
  for small numbers and for differences near 0 and 1.
- One task with another metric: Student's interval of the mean difference. Where all differences are equal, which shows
  no spread although the next item may differ, the interval of the share of items that do (`intervals.unseen`).
- A weighted sum of tasks: the tasks' intervals combined by MOVER (see `intervals.weighted_sum`). Tasks are fixed: their
  items are a sample, the tasks themselves and their weights are not.
- The worst of several entries, each relative to its best parent: see `evaluation.worst`.

The p-value answers the interval's own question, whether the weighted mean difference is 0: it is the smallest p for
which the interval of level 1 - p leaves 0 outside, so p < 0.05 exactly where the 95 % interval excludes 0. For one 0/1
task this is the score test of McNemar (1947), for another metric Student's paired test. It is two-sided. A test by
sign flips would ask whether the models are equal on each task, and misses gains on one task beside losses on another.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.evaluation.intervals import Z, equal, standard_error, student_deviate, student_p, unseen, weighted_sum
from evomerge.evaluation.worst import Ratio, worst_difference
from evomerge.record import Score

_LARGEST_Z = 38.0
"""Where p is the smallest number that a float can hold; beyond it p is shown as that number."""

_SMALLEST_Z = 1e-9
"""Where p is 1."""

_SLOW = 3
"""After so many steps that did not halve the bracket it is halved."""


@dataclass(frozen=True)
class Difference:
    """A paired difference of two models.

    Attributes:
        difference: the first model's objective minus the second's; above 0, the first is better.
        low: lower end of the 95 % interval.
        high: upper end.
        p_value: two-sided, of the hypothesis that the difference over all items like these is 0; below 0.05 exactly
            where the interval leaves 0 outside; never 0.
        n: number of items that both answered.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int

    def to_data(self) -> dict[str, Any]:
        """Return `{"difference", "low", "high", "p_value", "n"}`."""
        return asdict(self)


def compare(
    first: Mapping[str, Sequence[float]],
    second: Mapping[str, Sequence[float]],
    weights: Mapping[str, float],
) -> Difference:
    """Return the paired difference of two models on the items that both answered.

    Args:
        first: task to the values of the objective's metric, one per item; NaN: not judged. Items count that are judged
            for both.
        second: the same tasks, the same items in the same order.
        weights: task to its signed weight in the objective (`Objectives.weights`: negative where less is better); tasks
            of weight 0 do not count.

    Raises:
        ValueError: if tasks or numbers of items differ, or no task with a weight has items.
    """
    tasks = [task for task, weight in weights.items() if weight != 0.0]
    pairs = {task: (np.asarray(first[task], float), np.asarray(second[task], float)) for task in tasks}
    if all(a.shape == b.shape for a, b in pairs.values()):
        both = {task: ~(np.isnan(a) | np.isnan(b)) for task, (a, b) in pairs.items()}
        pairs = {task: (a[both[task]], b[both[task]]) for task, (a, b) in pairs.items()}
    if not tasks or any(a.shape != b.shape or a.ndim != 1 or len(a) == 0 for a, b in pairs.values()):
        shapes = {task: (a.shape, b.shape) for task, (a, b) in pairs.items()}
        raise ValueError(f"two models must have answered the same items of at least one task, but came {shapes}")
    parts = [_Part.of(*pairs[task]) for task in tasks]
    signed = [weights[task] for task in tasks]

    def at(z: float) -> Score:
        return weighted_sum([part.interval(z) for part in parts], signed)

    score = at(Z)
    p_value = parts[0].p_value if len(parts) == 1 else _inverted(at)
    return Difference(score.mean, score.low, score.high, p_value, score.n)


def compare_worst(first: Sequence[Ratio], second: Sequence[Ratio]) -> Difference:
    """Return the difference of two models' worst entries, each relative to its best parent (see `evaluation.worst`).

    Args:
        first: the first model's ratios.
        second: the second model's, of the same entries on the same items in the same order.
    """

    def at(z: float) -> Score:
        return worst_difference(first, second, z)

    score = at(Z)
    return Difference(score.mean, score.low, score.high, _inverted(at), score.n)


def tango(only_first: int, only_second: int, n: int, *, z: float = Z) -> tuple[float, float]:
    """Return Tango's score interval of the difference of two paired proportions.

    It holds every difference d that the score test does not reject: |b - c - n d| <= z sqrt(n (2 q + d (1 - d))), where
    q is the most likely probability, given d, that only the second model is right.

    Args:
        only_first: b, the number of items that only the first model has right.
        only_second: c, the number of items that only the second has right.
        n: the number of all items.
        z: of the interval's level; above 0.
    """
    b, c = only_first, only_second
    centre = (b - c) / n

    def statistic(d: float) -> float:
        B = -b - c + (2 * n - b + c) * d
        C = -c * d * (1 - d)
        q = (math.sqrt(max(B * B - 8 * n * C, 0.0)) - B) / (4 * n)
        variance = n * (2 * max(q, 0.0) + d * (1 - d))
        distance = b - c - n * d
        if variance <= 0.0:
            return 0.0 if distance == 0.0 else math.copysign(math.inf, distance)
        return distance / math.sqrt(variance)

    # The statistic falls from +z at the lower end, through 0 at the observed difference, to -z at the upper end.
    return _crossing(statistic, z, -1.0, centre), _crossing(statistic, -z, centre, 1.0)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's score test, z = (b - c) / sqrt(b + c); Tango's interval inverts it.

    It keeps its level: with 10 to 300 items and any share on which the models differ, at most 6.5 % of equal models
    have p < 0.05, and at most 5.7 % where they differ on less than nine items in ten (`benchmarks/paired_tests.py`).
    """
    b, c = only_first, only_second
    return _two_sided(abs(b - c) / math.sqrt(b + c)) if b != c else 1.0


@dataclass(frozen=True)
class _Part:
    """The differences of one task.

    Attributes:
        values: `(n_items,)`, first model minus second.
        binary: whether both models have only zeros and ones.
        span: how far from 0 differences may be that no item shows: 1 if all values lie in [0, 1], else twice the range
            of the two models' values.
    """

    values: NDArray[np.float64]
    binary: bool
    span: float

    @classmethod
    def of(cls, a: NDArray[np.float64], b: NDArray[np.float64]) -> _Part:
        both = np.concatenate([a, b])
        low, high = float(both.min()), float(both.max())
        return cls(
            a - b, bool(np.isin(both, (0.0, 1.0)).all()), 1.0 if low >= 0.0 and high <= 1.0 else 2.0 * (high - low)
        )

    @cached_property
    def discordant(self) -> tuple[int, int]:
        """The number of items that only the first model has right, and that only the second has."""
        return int(np.count_nonzero(self.values > 0.0)), int(np.count_nonzero(self.values < 0.0))

    def interval(self, z: float) -> Score:
        """Return the mean difference with its interval of the level of `z`."""
        n = len(self.values)
        if self.binary:
            only_first, only_second = self.discordant
            return Score((only_first - only_second) / n, *tango(only_first, only_second, n, z=z), n)
        values = self.values.tolist()
        mean = math.fsum(values) / n
        if not equal(values):
            half = student_deviate(z, n - 1) * standard_error(values, mean)
            return Score(mean, mean - half, mean + half, n)
        if n == 1 and self.span != 1.0:
            return Score(mean, -math.inf, math.inf, n)
        share = unseen(n, z=z)  # of items whose difference may be anything from -span to span
        return Score(mean, mean - share * (self.span + mean), mean + share * (self.span - mean), n)

    @property
    def p_value(self) -> float:
        """The p-value that `interval` inverts."""
        n = len(self.values)
        if self.binary:
            return mcnemar(*self.discordant)
        values = self.values.tolist()
        mean = math.fsum(values) / n
        if mean == 0.0 or equal(values):
            return 1.0 if mean == 0.0 else _inverted(self.interval)
        return _at_least(student_p(mean / standard_error(values, mean), n - 1))


def _inverted(at: Callable[[float], Score]) -> float:
    """Return the smallest p for which the interval of level 1 - p leaves 0 outside; 1 if none does.

    Args:
        at: returns the interval of the level of a z; it widens with z.
    """
    score = at(Z)
    if score.mean == 0.0 or not math.isfinite(score.low if score.mean > 0.0 else score.high):
        return 1.0

    def nearest(z: float) -> float:
        """Return how far the end that is nearest to 0 is on the side of the mean."""
        score = at(z)
        return score.low if score.mean > 0.0 else -score.high

    (low, above), (high, below) = (0.0, abs(score.mean)), (_LARGEST_Z, nearest(_LARGEST_Z))
    if below > 0.0:
        return _two_sided(high)
    # Nearly a line in z, so the secant needs few rounds. Where it is not, an end that stays has its value halved, which
    # sends the next step to its side (the Illinois rule, Dowell & Jarratt 1971), and then the bracket is halved. Below
    # the smallest z nothing is left outside, since upper ends that hold together do not meet their estimates.
    z, slow = Z, 0
    while high - low > 1e-9 * high and high > _SMALLEST_Z:
        found, width = nearest(z), high - low
        if found > 0.0:
            low, above, below = z, found, below / 2 if slow else below
        else:
            high, below, above = z, found, above / 2 if slow else above
        slow = slow + 1 if high - low > width / 2 else 0
        step = low + (high - low) * above / (above - below) if math.isfinite(below) else low
        # Towards the end that moved last, too, so that the other end moves as well.
        step += 1e-6 * (high - low) * (1.0 if found > 0.0 else -1.0)
        z = step if slow < _SLOW and low < step < high else (low + high) / 2
    return _two_sided(low)


def _two_sided(z: float) -> float:
    """Return P(|Z| >= z) of the standard normal distribution."""
    return _at_least(math.erfc(z / math.sqrt(2)))


def _at_least(p: float) -> float:
    """Return p, but never 0: a number too small for a float is the smallest one."""
    return min(1.0, max(p, sys.float_info.min))


def _crossing(statistic: Any, level: float, low: float, high: float) -> float:
    """Return the point where a falling function crosses a level, by bisection down to neighbouring floats."""
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        if statistic(middle) > level:
            low = middle
        else:
            high = middle
