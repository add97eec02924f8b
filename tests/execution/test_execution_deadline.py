"""When a candidate counts as hung."""

from dataclasses import replace

import pytest
from ray_workers import job

from evomerge.execution.pool.deadline import LEAST_SECONDS, TIMES, Deadline
from evomerge.record import Split

SIZES = {Split.SEARCH: 100, Split.VALIDATION: 400, Split.TEST: 0}


def test_what_the_user_says_holds_for_all() -> None:
    assert Deadline(7.0).of(job(0)) == 7.0
    assert Deadline(None, SIZES).of(job(0)) is None
    told = Deadline(7.0, SIZES)
    told.note(job(0), 1000.0)
    assert told.of(job(0, Split.VALIDATION)) == 7.0


def test_by_itself_it_follows_the_slowest_candidate_item_by_item() -> None:
    deadline = Deadline("auto", SIZES)
    assert deadline.of(job(0)) is None
    deadline.note(job(0), 1.0)
    assert deadline.of(job(1)) == LEAST_SECONDS
    deadline.note(job(1), 200.0)  # two seconds an item
    deadline.note(job(2), 50.0)
    assert deadline.of(job(3)) == pytest.approx(TIMES * 200.0)
    assert deadline.of(job(3, Split.VALIDATION)) == pytest.approx(TIMES * 800.0)
    few = replace(job(4), items={"t": tuple(range(30)), "u": (1, 2)})
    assert deadline.of(few) == pytest.approx(max(LEAST_SECONDS, TIMES * 64.0))
    deadline.note(few, 320.0)
    assert deadline.of(job(5)) == pytest.approx(TIMES * 1000.0)
    assert deadline.of(job(6, Split.TEST)) is None  # nobody knows how many items these are
