"""How long a search will take, by hand, and what is said of it."""

from datetime import datetime

import pytest

from evomerge.search.budget import Budget
from evomerge.search.plan import Cost, plan

NOW = datetime(2026, 3, 2, 14, 0)  # a Monday
SIZES = {"items": 100, "search": 100, "validation": 50, "test": 200, "baselines": 3, "finalists": 4}
COST = Cost(build=1.0, batch=2.0, item=0.01, batch_size=50)


def test_a_candidate_costs_its_merge_its_batches_and_its_items() -> None:
    assert COST.seconds(100) == pytest.approx(1.0 + 2 * 2.0 + 1.0)
    assert COST.seconds(101) == pytest.approx(1.0 + 3 * 2.0 + 1.01)


def test_the_cost_is_found_from_two_measurements() -> None:
    found = Cost.fitted((2, 1.0 + 2.0 + 0.02), (8, 1.0 + 2.0 + 0.08), build=1.0, batch_size=50)
    assert (found.batch, found.item) == (pytest.approx(2.0), pytest.approx(0.01))
    linear = Cost.fitted((2, 0.2), (8, 0.8), build=0.0, batch_size=50)
    assert linear.batch == pytest.approx(0.0) and linear.seconds(100) == pytest.approx(10.0)


@pytest.mark.parametrize(("few", "more"), [(9.0, 2.0), (0.01, 8.0), (0.0, 0.0)])
def test_a_noisy_measurement_gives_no_negative_cost(few: float, more: float) -> None:
    found = Cost.fitted((2, few), (8, more), build=0.5, batch_size=50)
    assert found.batch >= 0.0 and found.item >= 0.0
    assert found.seconds(8) == pytest.approx(max(more, 0.5))


def test_the_parts_of_a_search_add_up() -> None:
    found = plan(COST, Budget(candidates=20), **SIZES)
    assert found.candidate_seconds == pytest.approx(6.0)
    assert found.search_seconds == pytest.approx(120.0)
    assert found.baselines_seconds == pytest.approx(3 * (6.0 + 3.5))
    assert found.finals_seconds == pytest.approx(4 * 3.5 + 4 * 11.0)
    assert found.seconds == pytest.approx(120.0 + 28.5 + 58.0)
    assert found.to_data()["seconds"] == found.seconds and not found.by_time
    assert (
        found.sentence(NOW) == "plan: a candidate takes about 6.0 s, so 20 take about 2 min; baselines 28 s, finalists "
        "and test 58 s; ends about 14:03"
    )


def test_workers_share_the_work() -> None:
    one, four = plan(COST, Budget(candidates=20), **SIZES), plan(COST, Budget(candidates=20), **SIZES, workers=4)
    assert one.seconds is not None and four.seconds == pytest.approx(one.seconds / 4)


def test_the_first_limit_of_the_budget_counts() -> None:
    assert plan(COST, Budget(candidates=20, items=500), **SIZES).candidates == 5
    timed = plan(COST, Budget(candidates=2000, seconds=3600.0), **SIZES, merge_share=1 / 6)
    assert timed.by_time and timed.candidates == 600 and timed.search_seconds == 3600.0
    assert "a candidate takes about 6.0 s (merge 17 %), so budget.seconds (1 h 00 min) has room for about 600" in (
        timed.sentence(NOW)
    )
    assert not plan(COST, Budget(candidates=20, seconds=3600.0), **SIZES).by_time
    endless = plan(COST, Budget(), **SIZES)
    assert timed.sentence().endswith("; about 1 h 01 min together") and "ends" not in timed.sentence()
    assert endless.seconds is None and endless.sentence(NOW).endswith("nothing limits the search")


@pytest.mark.parametrize(("candidates", "end"), [(100, "14:11"), (7200, "Tue 02:01"), (720000, "2026-04-21 14:01")])
def test_the_end_is_named_by_the_clock_the_day_or_the_date(candidates: int, end: str) -> None:
    assert plan(COST, Budget(candidates=candidates), **SIZES).sentence(NOW).endswith(f"ends about {end}")
