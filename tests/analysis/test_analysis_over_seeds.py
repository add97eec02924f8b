"""A mean over seeds has Student's interval and p-value."""

import math
import random
import statistics

import pytest

from evomerge.analysis.over_seeds import over_seeds, student_quantile, student_within


@pytest.mark.parametrize(
    ("degrees", "t"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (10, 2.22814), (30, 2.04227)],
)
def test_students_t_is_the_tables(degrees: int, t: float) -> None:
    assert student_quantile(0.95, degrees) == pytest.approx(t, rel=1e-5)
    assert student_within(t, degrees) == pytest.approx(0.95, abs=1e-5)


def test_few_and_equal_values_say_what_they_can() -> None:
    assert over_seeds([]) is None
    one = over_seeds([0.5])
    assert one is not None and one.to_data() == {
        "mean": 0.5, "spread": None, "low": None, "high": None, "p_value": None, "n": 1
    }  # fmt: skip
    same = over_seeds([0.25, 0.25, 0.25])
    assert same is not None and (same.spread, same.low, same.high, same.p_value) == (0.0, 0.25, 0.25, 0.0)
    zero = over_seeds([0.0, 0.0])
    assert zero is not None and zero.p_value == 1.0


def test_interval_and_p_value_agree_and_cover() -> None:
    draw = random.Random(5)
    covered = agreed = 0
    for _ in range(2000):
        values = [draw.gauss(0.0, 0.03) for _ in range(4)]
        found = over_seeds(values)
        assert found is not None and found.spread == pytest.approx(statistics.stdev(values))
        inside = found.low <= 0.0 <= found.high
        covered += inside
        agreed += inside == (found.p_value >= 0.05)
    assert agreed == 2000
    assert abs(covered / 2000 - 0.95) < 3 * math.sqrt(0.05 * 0.95 / 2000)
