"""Search scores beside validation scores, against what is worked out by hand."""

from pathlib import Path

import pytest
from made_runs import ADD, made_run

from evomerge.analysis.estimates import CheckedEstimate, Compared, agreement, checked_estimates, compared_scores
from evomerge.record import EarlyEstimate, Record, Score, Split
from evomerge.store.run_dir import RunDir


def pair(search: Score, validation: Score, items: int = 100) -> Compared:
    record: Record = None  # type: ignore[assignment]  # not looked at
    return Compared(record, search, validation, items)


def test_the_interval_of_a_difference_of_independent_scores() -> None:
    one = pair(Score(0.6, 0.5, 0.68, 30), Score(0.5, 0.44, 0.54, 200))
    assert one.error == pytest.approx(0.1) and one.estimated
    # sqrt(0.1² + 0.04²) and sqrt(0.08² + 0.06²)
    assert one.interval == pytest.approx((0.1 - 0.116**0.5 / 10**0.5, 0.2))
    assert one.holds
    assert not pair(Score(0.9, 0.85, 0.95, 100), Score(0.5, 0.44, 0.54, 200)).holds


def test_agreement_is_told_with_and_without_the_sign() -> None:
    flat = Score(0.5, 0.45, 0.55, 100)
    found = agreement(
        [pair(Score(0.6, 0.55, 0.65, 100), flat), pair(Score(0.4, 0.35, 0.45, 100), flat), pair(flat, flat)]
    )
    assert found is not None
    assert (found.n, found.hold) == (3, 1)
    assert found.error == pytest.approx(0.0) and found.distance == pytest.approx(0.2 / 3)
    assert agreement([]) is None


def test_who_has_both_scores(tmp_path: Path) -> None:
    with RunDir.open(made_run(tmp_path / "run", specs=(ADD,))) as run:
        records = [*run.database.baselines(), *run.database.records()]
        found = compared_scores(run, records)
        names = [one.record.name for one in found]
        assert names[:4] == ["math", "words", "code", "average"] and len(names) == 4 + 4
        assert all(one.items == one.search.n == 20 and one.last is None and not one.estimated for one in found)
        assert all(Split.VALIDATION in one.record.scores for one in found)


def test_the_interval_of_an_estimate_is_that_of_its_own_error() -> None:
    record: Record = None  # type: ignore[assignment]  # not looked at
    one = CheckedEstimate(record, EarlyEstimate(10, 0.6, 0.05), 0.5)
    assert one.error == pytest.approx(0.1) and one.interval == pytest.approx((0.6 - 0.098, 0.6 + 0.098), abs=1e-5)
    assert not one.holds
    others = [CheckedEstimate(record, EarlyEstimate(10, 0.3, 0.11), 0.5), CheckedEstimate(record, one.estimate, 0.6)]
    found = agreement([one, *others])
    assert found is not None and (found.n, found.hold) == (3, 2)
    assert found.error == pytest.approx(-0.1 / 3) and found.distance == pytest.approx(0.1)


def test_estimates_are_checked_where_the_full_score_is_known(tmp_path: Path) -> None:
    noted = {-1: [(5, 0.4, 0.1)], 2: [(5, 0.4, 0.1), (10, float("nan"), 0.1), (15, 0.6, 0.1)], 3: [(5, 0.4, 0.1)]}
    with RunDir.open(made_run(tmp_path / "run", specs=(ADD,), estimates=noted)) as run:
        records = [*run.database.baselines(), *run.database.records()]
        found = checked_estimates(records, run.database.traces.all())
        assert [(one.record.number, one.estimate.n) for one in found] == [(-1, 5), (2, 5), (2, 15)]  # 3 failed
        assert all(one.full == one.record.scores[Split.SEARCH].mean for one in found)
        assert checked_estimates(records, {}) == []
