"""95 % confidence intervals of means and of weighted sums of means.

A 0/1 metric has the Wilson score interval (Wilson 1927, JASA 22:209), which stays inside [0, 1] and keeps its level
where all items are right or all are wrong. Any other metric has Student's interval. The interval of a weighted sum over
tasks combines the tasks' intervals by MOVER (Zou & Donner 2008, Statistics in Medicine 27:1693, eq. 3 and its extension
to k terms); for one task with weight 1 it is that task's interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from evomerge.record import Score

LEVEL = 0.95
LARGEST_SQUARED = 1e150
"""Values beyond are divided before they are squared."""

Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
"""The two-sided 95 % quantile of the standard normal distribution, 1.95996…"""


def mean_score(values: Sequence[float]) -> Score:
    """Return the mean of one metric over items with its 95 % interval.

    The interval is Wilson's where every value is 0 or 1, else Student's. Student's is (-inf, inf) for a single value,
    whose spread is not known, and has width 0 where all values are equal. Where a value is not finite, it is NaN.

    Raises:
        ValueError: if there are no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("the mean of no values is undefined")
    largest = max(map(abs, values))
    if not largest <= LARGEST_SQUARED:  # NaN too
        return _extreme_mean(values, largest)
    mean = math.fsum(values) / n
    if all(value in (0.0, 1.0) for value in values):
        return Score(mean, *wilson(round(math.fsum(values)), n), n)
    if n == 1:
        return Score(mean, -math.inf, math.inf, n)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = student_quantile(0.5 + LEVEL / 2, n - 1) * math.sqrt(variance / n)
    return Score(mean, mean - half, mean + half, n)


def _extreme_mean(values: Sequence[float], largest: float) -> Score:
    """Return the mean of values whose squares are not finite; the interval of such that are not finite is NaN."""
    n = len(values)
    if not all(map(math.isfinite, values)):
        return Score(sum(values) / n, math.nan, math.nan, n)
    unit = mean_score([value / largest for value in values])
    return Score(unit.mean * largest, unit.low * largest, unit.high * largest, n)


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a proportion (without continuity correction)."""
    p = successes / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    # The ends are exactly 0 and 1, where rounding would leave 1e-17 or put the bound on the wrong side of the mean.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def weighted_sum(scores: Sequence[Score], weights: Sequence[float]) -> Score:
    """Return sum_k w_k * mean_k with its interval, for independent means; weights may be negative.

    MOVER: with l_k, u_k the bounds of w_k * mean_k, low = sum - sqrt(sum_k (w_k mean_k - l_k)^2), and likewise high.
    """
    centre = math.fsum(w * score.mean for score, w in zip(scores, weights, strict=True))
    below: list[float] = []
    above: list[float] = []
    for score, w in zip(scores, weights, strict=True):
        if w == 0:
            continue  # 0 * inf would be NaN
        down, up = abs(w) * (score.mean - score.low), abs(w) * (score.high - score.mean)
        below.append(down if w > 0 else up)
        above.append(up if w > 0 else down)
    return Score(centre, centre - math.hypot(*below), centre + math.hypot(*above), sum(score.n for score in scores))


def student_quantile(q: float, df: float) -> float:
    """Return the `q` quantile (0.5 < q < 1) of Student's t distribution with `df` > 0 degrees of freedom."""
    # P(T > t) = I_x(df/2, 1/2) / 2 with x = df / (df + t^2): bisect on x, which is bounded, and convert back to t.
    target = 2 * (1 - q)
    low, high = 0.0, 1.0
    for _ in range(200):
        x = (low + high) / 2
        if x in (low, high):
            break
        if _beta_cdf(x, df / 2, 0.5) < target:
            low = x
        else:
            high = x
    x = (low + high) / 2
    return math.sqrt(df * (1 - x) / x)


def _beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) by its continued fraction (DLMF 8.17.22)."""
    if x <= 0.0 or x >= 1.0:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, its mirror image converges fast
        return 1.0 - _beta_cdf(1.0 - x, b, a)
    log_front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    # 1 / (1 + d1/(1 + d2/(1 + ...))), from the innermost term outwards; 400 terms are ample for every df.
    value = 1.0
    for m in range(400, 0, -1):
        k, odd = divmod(m, 2)
        if odd:
            d = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1))
        else:
            d = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k))
        value = 1.0 + d / value
    return math.exp(log_front) / (a * value)
