"""What several searches of the same configuration say together: mean and spread over seeds.

One search's interval is about its test items. Another seed draws other items, starts elsewhere and takes other turns,
so searches that differ in the seed alone say how much of a gain is luck. Their number is small: intervals and p-values
are Student's (W. S. Gosset, 1908), with one degree of freedom less than there are searches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

LEVEL = 0.95

_ROUNDING = 1e-12
"""A spread below it (of numbers around 1) is what rounding leaves of equal values."""


@dataclass(frozen=True)
class OverSeeds:
    """A number over several searches.

    Attributes:
        mean: of the searches that have it.
        spread: their standard deviation (n - 1 in the denominator); NaN for one search.
        low, high: 95 % interval of the mean, over seeds; NaN for one search, and where all are equal.
        p_value: two-sided, of a mean of zero; NaN for one search, and where all are equal.
        n: how many searches have it.
    """

    mean: float
    spread: float
    low: float
    high: float
    p_value: float
    n: int

    def to_data(self) -> dict[str, Any]:
        """Return JSON data, in which what is not known is null."""
        return {name: None if one != one else one for name, one in asdict(self).items()}


def over_seeds(values: Sequence[float], limits: tuple[float, float] = (-math.inf, math.inf)) -> OverSeeds | None:
    """Return what values of several searches say together; None without values.

    Equal values have no spread to judge the mean by, so they have neither an interval nor a p-value: that a few
    searches agree does not make them certain.

    Args:
        values: one of each search.
        limits: what the mean cannot be beyond (0 and 1 for shares), and so its interval is not.
    """
    n = len(values)
    if not n:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return OverSeeds(mean, math.nan, math.nan, math.nan, math.nan, 1)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    if spread <= _ROUNDING * max(1.0, abs(mean)):
        mean = values[0] if len(set(values)) == 1 else mean
        return OverSeeds(mean, 0.0, math.nan, math.nan, math.nan, n)
    error = spread / math.sqrt(n)
    half = error * student_quantile(LEVEL, n - 1)
    p_value = 1.0 - student_within(abs(mean) / error, n - 1)
    low, high = max(mean - half, limits[0]), min(mean + half, limits[1])
    return OverSeeds(mean, spread, low, high, max(p_value, 0.0), n)


def student_within(t: float, degrees: int) -> float:
    """Return the probability that Student's t lies within ±t.

    The finite sums of Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.
    """
    angle = math.atan2(t, math.sqrt(degrees))
    cosine = math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cosine * cosine * (k - 1) / k
    if odd:
        return 2.0 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total


def student_quantile(level: float, degrees: int) -> float:
    """Return the t for which Student's t lies within ±t with probability `level`."""
    low, high = 0.0, 1.0
    while student_within(high, degrees) < level:
        high *= 2.0
    for _ in range(200):
        middle = (low + high) / 2.0
        low, high = (middle, high) if student_within(middle, degrees) < level else (low, middle)
    return high
