"""The hypervolume over a search, worked out by hand and against the hypervolume of each moment."""

import numpy as np
import pytest

from evomerge.analysis.front import front, hypervolume
from evomerge.analysis.hypervolume import hypervolume_course, reference_point
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Record, Result, State


def test_it_grows_with_each_trade_off() -> None:
    results = [
        Result((1.0, 3.0)),  # 1 x 3
        None,
        Result((3.0, 1.0)),  # and 2 x 1 more
        Result((2.0, 2.0)),  # and 1 x 1 more
        Result((1.0, 1.0)),  # covered
        Result((9.0, 9.0), violation=0.1),
        Result((-1.0, 99.0)),  # beyond the reference in one objective only
        Result((3.0, 3.0)),  # all of 3 x 3
    ]
    assert list(hypervolume_course(results, (0.0, 0.0))) == [3.0, 3.0, 5.0, 6.0, 6.0, 6.0, 6.0, 9.0]


@pytest.mark.parametrize("n_objectives", [1, 2, 3])
def test_it_is_the_hypervolume_of_each_moment(n_objectives: int) -> None:
    draw = np.random.default_rng(n_objectives)
    results = [Result(tuple(map(float, row))) for row in draw.integers(-1, 5, (30, n_objectives))]
    found = list(hypervolume_course(results, [0.0] * n_objectives))
    assert found == pytest.approx([hypervolume(results[: i + 1], [0.0] * n_objectives) for i in range(30)])


def test_the_reference_is_what_searches_share() -> None:
    parents = [Result((0.2, -10.0)), Result((0.0, -12.0))]
    candidates = [Result((0.1, -40.0))]
    assert reference_point(parents, candidates, (0.0, None)) == (0.0, -12.0)
    assert reference_point([], candidates, (None, None)) == (0.1, -40.0)
    assert reference_point([], [], (None,)) == (0.0,)


def test_a_front_is_what_dominates_says() -> None:
    recipe = Recipe("linear", (Parent("a", ModelSource("a")),))
    draw = np.random.default_rng(0)
    for violations in ((0.0,), (0.0, 0.5), (0.5, 0.7)):
        results = [
            Result(tuple(map(float, draw.integers(0, 4, 2))), violation=float(draw.choice(violations)))
            for _ in range(25)
        ]
        records = [Record(i, f"candidate {i}", State.COMPLETE, recipe, result=one) for i, one in enumerate(results)]
        best = {i for i, one in enumerate(results) if not any(other.dominates(one) for other in results)}
        assert {record.number for record in front(records)} == best
