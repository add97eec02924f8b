"""How hard items are, and means of blocks, against what is worked out by hand."""

import numpy as np
import pytest

from evomerge.analysis.difficulty import block_means, blocks, difficulty

NAN = np.nan


def test_items_that_decide_nothing() -> None:
    found = difficulty(np.array([[1, 0, 1, NAN, 0.0], [1, 0, 0, NAN, NAN], [1, 0, 0, NAN, NAN]]))
    assert found.asked.tolist() == [3, 3, 3, 0, 1]
    assert found.mean[:3] == pytest.approx([1, 0, 1 / 3]) and np.isnan(found.mean[3])
    assert found.same.tolist() == [True, True, False, False, False]  # one answer alone says nothing of others
    assert found.always.tolist() == [True, False, False, False, False]
    assert found.never.tolist() == [False, True, False, False, False]
    assert found.judged and found.items == 5


def test_where_less_is_better_zero_is_right() -> None:
    found = difficulty(np.array([[0.0, 0.5, 1.0], [0.0, 0.5, 1.0]]), less=True)
    assert found.always.tolist() == [True, False, False] and found.never.tolist() == [False, True, True]
    assert found.same.all()


def test_numbers_in_a_unit_are_neither_right_nor_wrong() -> None:
    found = difficulty(np.array([[12.0, 7.0], [12.0, 8.0]]))
    assert not found.judged and not found.never.any() and not found.always.any()
    assert found.same.tolist() == [True, False]


def test_nothing_is_known_of_no_answers() -> None:
    found = difficulty(np.full((2, 3), NAN))
    assert not found.judged and not found.same.any() and np.isnan(found.mean).all()


def test_blocks_cover_everything_once() -> None:
    assert blocks(10, 4).tolist() == [0, 2, 5, 8, 10]
    assert blocks(3, 10).tolist() == [0, 1, 2, 3]
    assert blocks(1, 1).tolist() == [0, 1]


def test_means_of_blocks_leave_out_what_is_missing() -> None:
    values = np.array([[1.0, 0.0, NAN], [NAN, 1.0, NAN], [0.0, 0.0, NAN]])
    means = block_means(values, np.array([0, 2, 3]), np.array([0, 2, 3]))
    assert means[:, 0] == pytest.approx([2 / 3, 0.0]) and np.isnan(means[:, 1]).all()
