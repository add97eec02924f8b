"""95 % confidence intervals of means and of weighted sums of means.

A 0/1 metric has the Wilson score interval (Wilson 1927, JASA 22:209), which stays inside [0, 1] and keeps its level
where all items are right or all are wrong. Any other metric has Student's interval; where all values are equal, which
shows no spread although the next item may differ, it has Wilson's interval of the share of items that do (`unseen`).
The interval of a weighted sum over tasks combines the tasks' intervals by MOVER (Zou & Donner 2008, Statistics in
Medicine 27:1693, eq. 3 and its extension to k terms); for one task with weight 1 it is that task's interval.

Each has its level as `z`, the quantile of the standard normal distribution that bounds a two-sided interval of that
level, so that a p-value can be read off the intervals themselves (`evomerge.analysis.comparison`).
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


def mean_score(values: Sequence[float], *, z: float = Z) -> Score:
    """Return the mean of one metric over items with its interval.

    The interval is Wilson's where every value is 0 or 1, else Student's. Where all values are equal, it allows for the
    share of items that n items may fail to show (`unseen`), which could lie anywhere in [0, 1] if these do, else at 0
    or twice the value. It is (-inf, inf) for a single value outside of [0, 1]; where a value is not finite, it is NaN.

    Raises:
        ValueError: if there are no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("the mean of no values is undefined")
    largest = max(map(abs, values))
    if not largest <= LARGEST_SQUARED:  # NaN too
        return _extreme_mean(values, largest, z)
    mean = math.fsum(values) / n
    if all(value in (0.0, 1.0) for value in values):
        return Score(mean, *wilson(round(math.fsum(values)), n, z=z), n)
    least = min(values)
    if not equal(values):
        half = student_deviate(z, n - 1) * standard_error(values, mean)
        return Score(mean, mean - half, mean + half, n)
    share = unseen(n, z=z)
    if 0.0 <= least <= 1.0:
        return Score(least, least - share * least, least + share * (1.0 - least), n)
    half = math.inf if n == 1 else share * abs(least)
    return Score(least, least - half, least + half, n)


def _extreme_mean(values: Sequence[float], largest: float, z: float) -> Score:
    """Return the mean of values whose squares are not finite; the interval of such that are not finite is NaN."""
    n = len(values)
    if not all(map(math.isfinite, values)):
        return Score(sum(values) / n, math.nan, math.nan, n)
    unit = mean_score([value / largest for value in values], z=z)
    return Score(unit.mean * largest, unit.low * largest, unit.high * largest, n)


def equal(values: Sequence[float]) -> bool:
    """Return whether all values are equal up to rounding, so that they show no spread."""
    least, most = min(values), max(values)
    return most - least <= 1e-9 * max(abs(least), abs(most))


def standard_error(values: Sequence[float], mean: float) -> float:
    """Return the standard error of the mean of two or more values (n - 1 in the variance)."""
    n = len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


def unseen(n: int, *, z: float = Z) -> float:
    """Return the largest share of items, by Wilson's interval, of a kind of which n items show none: z²/(n + z²)."""
    return z**2 / (n + z**2)


def wilson(successes: float, n: int, *, z: float = Z) -> tuple[float, float]:
    """Return Wilson's interval of a proportion (without continuity correction)."""
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
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
    return _student(2 * (1 - q), df)


def student_deviate(z: float, df: float) -> float:
    """Return the t that has the same two-sided p-value in Student's distribution as z has in the normal one."""
    return _student(math.erfc(z / math.sqrt(2)), df)


def student_p(t: float, df: float) -> float:
    """Return the two-sided p-value P(|T| >= |t|) of Student's distribution."""
    return _beta_cdf(df / (df + t * t), df / 2, 0.5)


def _student(target: float, df: float) -> float:
    """Return the t with P(|T| >= t) = target."""
    # P(|T| > t) = I_x(df/2, 1/2) with x = df / (df + t^2). Its logarithm is nearly a line in that of x, so Newton's
    # steps need few rounds; a step out of the bracket, which is where x is near 1, is replaced by its middle.
    if target >= 1.0:
        return 0.0
    a = df / 2
    log_beta = math.lgamma(a) + math.lgamma(0.5) - math.lgamma(a + 0.5)
    low, high, x = 0.0, 1.0, 0.5
    for _ in range(200):
        found = _beta_cdf(x, a, 0.5)
        low, high = (x, high) if found < target else (low, x)
        step = x
        if found > 0.0:
            slope = math.exp(a * math.log(x) - 0.5 * math.log1p(-x) - log_beta - math.log(found))
            step = x * math.exp(min(700.0, (math.log(target) - math.log(found)) / slope)) if slope > 0.0 else x
        if not low < step < high:
            step = (low + high) / 2
        if step in (low, high) or abs(step - x) <= 1e-13 * x:
            break
        x = step
    return math.sqrt(df * (1 - x) / x)


def _beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) by its continued fraction (DLMF 8.17.22)."""
    if x <= 0.0 or x >= 1.0:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, its mirror image converges fast
        return 1.0 - _beta_cdf(1.0 - x, b, a)
    log_front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    # 1 / (1 + d1/(1 + d2/(1 + ...))), from the innermost term outwards. It needs about sqrt(max(a, b)) terms; with
    # three times as many and 30 more, the largest relative error is 4e-13, for up to 50,000 degrees of freedom.
    value = 1.0
    for m in range(30 + round(3 * math.sqrt(max(a, b))), 0, -1):
        k, odd = divmod(m, 2)
        if odd:
            d = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1))
        else:
            d = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k))
        value = 1.0 + d / value
    return math.exp(log_front) / (a * value)
