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
    assert same is not None and same.to_data() == {**one.to_data(), "mean": 0.25, "spread": 0.0, "n": 3}
    nearly = over_seeds([1 / 3, 1 / 3 + 1e-16, 1 / 3])
    assert nearly is not None and (nearly.spread, nearly.to_data()["low"]) == (0.0, None)
    apart = over_seeds([0.0, 1e-9])
    assert apart is not None and apart.spread > 0.0 and apart.low < 0.0 < apart.high


def test_an_interval_of_shares_ends_at_its_limits() -> None:
    free, held = over_seeds([0.75, 1.0]), over_seeds([0.75, 1.0], (0.0, 1.0))
    assert free is not None and held is not None and free.low < 0.0 and free.high > 1.0
    assert (held.low, held.high) == (0.0, 1.0) and (held.mean, held.p_value) == (free.mean, free.p_value)


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
