"""The paired difference of two models on the same items, with its 95 % interval and a p-value.

Two models that answer the same items mostly agree, so the difference of their means is far more certain than two
separate intervals suggest: only the items on which they differ count.

- One task with a 0/1 metric: Tango's score interval (Tango 1998, Statistics in Medicine 17:891), which keeps its level
  for small numbers and for differences near 0 and 1, and the exact test of McNemar (1947).
- One task with another metric: Student's interval of the mean difference.
- A weighted sum of tasks: the tasks' intervals combined by MOVER (see `intervals.weighted_sum`).
- In the last two cases, the p-value is that of a sign-flip permutation test of the weighted sum: if the models were
  equal, each item's difference would be equally likely with the other sign.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.evaluation.intervals import Z, mean_score, weighted_sum
from evomerge.record import Score

FLIPS = 9999
"""How many random sign patterns a permutation test tries; with the observed one, p is a multiple of 1/10000."""

_CHUNK = 1 << 22  # random signs in memory at once


@dataclass(frozen=True)
class Difference:
    """A paired difference of two models.

    Attributes:
        difference: the first model's objective minus the second's; above 0, the first is better.
        low: lower end of the 95 % interval.
        high: upper end.
        p_value: two-sided, of the hypothesis that the two models are equal.
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
    *,
    seed: int = 0,
) -> Difference:
    """Return the paired difference of two models on the items that both answered.

    Args:
        first: task to the values of the objective's metric, one per item; NaN: not judged. Items count that are judged
            for both.
        second: the same tasks, the same items in the same order.
        weights: task to its signed weight in the objective (`Objectives.weights`: negative where less is better); tasks
            of weight 0 do not count.
        seed: of the sign flips.

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
    score = weighted_sum([_interval(*pairs[task]) for task in tasks], [weights[task] for task in tasks])
    if len(tasks) == 1 and _is_binary(*pairs[tasks[0]]):
        p_value = mcnemar(*_discordant(*pairs[tasks[0]]))
    else:
        # Each item's share of the weighted sum of mean differences.
        shares = np.concatenate([weights[task] * (a - b) / len(a) for task, (a, b) in pairs.items()])
        p_value = sign_flip(shares, seed=seed)
    return Difference(score.mean, score.low, score.high, p_value, score.n)


def tango(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """Return Tango's 95 % score interval of the difference of two paired proportions.

    It holds every difference d that the score test does not reject: |b - c - n d| <= z sqrt(n (2 q + d (1 - d))), where
    q is the most likely probability, given d, that only the second model is right.

    Args:
        only_first: b, the number of items that only the first model has right.
        only_second: c, the number of items that only the second has right.
        n: the number of all items.
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
    return _crossing(statistic, Z, -1.0, centre), _crossing(statistic, -Z, centre, 1.0)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test, by which b of b + c are the heads of a fair coin."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, k) for k in range(fewer + 1))
    return min(1.0, tail / 2 ** (n - 1)) if n else 1.0


def sign_flip(shares: NDArray[np.float64], *, seed: int = 0, flips: int = FLIPS) -> float:
    """Return the two-sided p-value of a sign-flip permutation test of a sum.

    All sign patterns are tried if there are no more than `flips` + 1 of them. Otherwise `flips` random patterns are
    tried, and the observed one counts too, so that p is never 0 (Phipson & Smyth 2010, doi:10.2202/1544-6115.1585).

    Args:
        shares: `(n_items,)`, what each item adds to the sum.
        seed: of the generator.
        flips: number of random patterns.
    """
    moved = shares[shares != 0.0]
    # Sums that are equal up to rounding count as equal.
    least = abs(math.fsum(moved)) - 1e-9 * float(np.abs(moved).sum())
    if 2 ** len(moved) <= flips + 1:
        patterns = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))[None, :]
        sums = (1 - 2 * (patterns & 1)) @ moved
        return float(np.mean(np.abs(sums) >= least))
    generator = np.random.default_rng(seed)
    reached, done = 1, 0
    while done < flips:
        rows = min(flips - done, max(1, _CHUNK // len(moved)))
        signs = 1 - 2 * generator.integers(0, 2, (rows, len(moved)), dtype=np.int8)
        reached += int(np.count_nonzero(np.abs(signs @ moved) >= least))
        done += rows
    return reached / (flips + 1)


def _interval(a: NDArray[np.float64], b: NDArray[np.float64]) -> Score:
    if not _is_binary(a, b):
        return mean_score((a - b).tolist())
    only_first, only_second = _discordant(a, b)
    n = len(a)
    return Score((only_first - only_second) / n, *tango(only_first, only_second, n), n)


def _is_binary(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())


def _discordant(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[int, int]:
    return int(np.count_nonzero(a > b)), int(np.count_nonzero(a < b))


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
