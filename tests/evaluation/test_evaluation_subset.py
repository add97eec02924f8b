"""Splits: disjoint, seeded, recorded, the same in every process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from evomerge.errors import ConfigError
from evomerge.evaluation.subset import Drawn, draw_splits, split_items
from evomerge.evaluation.task import SplitSizes, Task
from evomerge.record import Split

SIZES = {Split.SEARCH: 5, Split.VALIDATION: 0.2, Split.TEST: None}


def test_splits_are_disjoint_cover_the_rest_and_ascend() -> None:
    drawn = split_items(20, SIZES, 7, "t")
    assert [len(drawn[split]) for split in Split] == [5, 4, 11]
    assert sorted(item for items in drawn.values() for item in items) == list(range(20))
    assert all(list(items) == sorted(items) for items in drawn.values())


def test_the_seed_and_the_task_name_decide_the_items() -> None:
    drawn = split_items(50, SIZES, 7, "t")
    assert drawn == split_items(50, SIZES, 7, "t")
    assert drawn != split_items(50, SIZES, 8, "t")
    assert drawn != split_items(50, SIZES, 7, "u")


def test_another_process_with_another_hash_seed_draws_the_same_items() -> None:
    code = (
        "from evomerge.evaluation.subset import split_items\nfrom evomerge.record import Split\n"
        "print(split_items(30, {Split.SEARCH: 5, Split.TEST: None}, 3, 'täsk')[Split.SEARCH])"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {f"{split_items(30, {Split.SEARCH: 5, Split.TEST: None}, 3, 'täsk')[Split.SEARCH]}\n"}


def test_drawing_does_not_touch_the_global_random_state() -> None:
    import random

    before = random.getstate()
    split_items(30, SIZES, 3, "t")
    assert random.getstate() == before


def test_test_items_stay_when_the_other_splits_change_their_size() -> None:
    first = split_items(100, {Split.SEARCH: 10, Split.VALIDATION: 10, Split.TEST: 30}, 0, "t")
    later = split_items(100, {Split.SEARCH: None, Split.VALIDATION: 20, Split.TEST: 30}, 0, "t")
    assert first[Split.TEST] == later[Split.TEST]
    assert not set(first[Split.TEST]) & set(later[Split.SEARCH])


@pytest.mark.parametrize(("fraction", "n", "count"), [(0.29, 100, 29), (0.5, 7, 3), (0.1, 10, 1), (0.07, 100, 7)])
def test_a_fraction_is_rounded_down_without_losing_to_binary_rounding(fraction: float, n: int, count: int) -> None:
    assert len(split_items(n, {Split.SEARCH: fraction}, 0, "t")[Split.SEARCH]) == count


def test_sizes_that_ask_for_too_much_are_refused_with_the_numbers() -> None:
    sizes = {Split.SEARCH: 20, Split.VALIDATION: 10, Split.TEST: 5}
    with pytest.raises(ConfigError, match=r"'t' has 30 items, but search=20 \+ validation=10 \+ test=5 = 35"):
        split_items(30, sizes, 0, "t")
    with pytest.raises(ConfigError, match="leaves none for the search split"):
        split_items(30, {Split.SEARCH: None, Split.TEST: 30}, 0, "t")
    with pytest.raises(ConfigError, match=r"has 3 items, of which test=0.2 is none"):
        split_items(3, {Split.SEARCH: None, Split.TEST: 0.2}, 0, "t")
    with pytest.raises(ConfigError, match="both the search and the test split ask for the rest"):
        split_items(30, {Split.SEARCH: None, Split.TEST: None}, 0, "t")


def test_a_split_from_another_task_draws_from_that_tasks_documents_only() -> None:
    task = Task("main", test="other")
    drawn = draw_splits(task, {"main": 10, "other": 40}, SplitSizes(search=6, validation=None, test=None), 1)
    assert [drawn[split].source for split in Split] == ["main", "main", "other"]
    assert sorted(drawn[Split.SEARCH].items + drawn[Split.VALIDATION].items) == list(range(10))
    assert drawn[Split.TEST].items == tuple(range(40))


def test_two_splits_from_another_task_are_disjoint_there() -> None:
    task = Task("main", validation="other", test="other")
    drawn = draw_splits(task, {"main": 10, "other": 10}, SplitSizes(search=None, validation=4, test=6), 1)
    assert drawn[Split.SEARCH].items == tuple(range(10))
    assert sorted(drawn[Split.VALIDATION].items + drawn[Split.TEST].items) == list(range(10))


def test_validation_may_be_empty() -> None:
    drawn = draw_splits(Task("t"), {"t": 10}, SplitSizes(search=None, validation=0, test=3), 1)
    assert [len(drawn[split].items) for split in Split] == [7, 0, 3]


def test_a_drawn_split_survives_json() -> None:
    drawn = Drawn("t", 9, (0, 3, 8))
    assert Drawn.from_data(json.loads(json.dumps(drawn.to_data()))) == drawn
