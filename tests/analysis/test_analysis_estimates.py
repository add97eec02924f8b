"""Search scores beside validation scores, against what is worked out by hand."""

from pathlib import Path

import pytest
from made_runs import ADD, made_run

from evomerge.analysis.estimates import Compared, agreement, compared_scores
from evomerge.record import Record, Score, Split
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
