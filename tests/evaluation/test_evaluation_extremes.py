"""Numbers at the ends of what a double holds: means and intervals neither overflow nor raise."""

import json
import math
import warnings

import pytest

from evomerge.evaluation.intervals import mean_score, weighted_sum
from evomerge.system.text import json_text


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("value", [1e149, 1e151, 1e200, 1.7e308, 5e-324])
def test_the_mean_of_extreme_values_is_exact_and_its_interval_is_theirs_scaled(value: float, sign: float) -> None:
    pattern = [1.0, 0.5, 0.25, 1.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mean_score([sign * value * one for one in pattern])
        assert mean_score([sign * value] * 1000).mean == sign * value
    if value > 1e-300:  # below, numbers have few digits
        unit = mean_score([sign * one for one in pattern])
        assert found.mean == pytest.approx(unit.mean * value, rel=1e-15)
        for end, exact in ((found.low, unit.low), (found.high, unit.high)):
            assert end == pytest.approx(exact * value, rel=1e-12)
    assert not math.isnan(found.low + found.high) or math.isinf(found.low)


@pytest.mark.parametrize("values", [[math.inf, -math.inf, 1.0], [math.nan, 1.0], [math.inf, 1.0], [1e308, math.nan]])
def test_values_that_are_not_finite_have_a_mean_that_says_so_and_no_interval(values: list[float]) -> None:
    found = mean_score(values)
    assert not math.isfinite(found.mean) and math.isnan(found.low) and math.isnan(found.high)
    data = json.loads(json_text(found.to_data()), parse_constant=pytest.fail)
    assert data == {"mean": None, "low": None, "high": None, "n": len(values)}


def test_sums_of_extreme_means_stay_numbers() -> None:
    scores = [mean_score([1e150, 0.5e150]), mean_score([-1e150, 1e150])]
    total = weighted_sum(scores, [0.5, -0.5])
    assert math.isfinite(total.mean) and math.isfinite(total.low) and math.isfinite(total.high)


def test_an_interval_without_ends_is_null_in_json() -> None:
    text = json_text({"one": [mean_score([3.5]).to_data()]})
    assert json.loads(text, parse_constant=pytest.fail)["one"][0] == {"mean": 3.5, "low": None, "high": None, "n": 1}
