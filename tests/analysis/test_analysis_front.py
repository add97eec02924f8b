import itertools

import numpy as np
import pytest

from evomerge.analysis.front import front, hypervolume
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Record, Result, State

RECIPE = Recipe("linear", (Parent("a", ModelSource("a")),))


def record(number: int, result: Result | None) -> Record:
    return Record(number, f"candidate {number}", State.COMPLETE, RECIPE, result=result)


def test_a_front_holds_what_nothing_dominates() -> None:
    results = [
        Result((0.1, 0.9)),
        Result((0.5, 0.5)),
        Result((0.5, 0.4)),
        None,
        Result((0.9, 0.9), 0.5),
        Result((0.1, 0.9)),
    ]
    found = front(record(number, result) for number, result in enumerate(results))
    assert [one.number for one in found] == [1, 0, 5]


def test_the_hypervolume_is_what_counting_boxes_gives() -> None:
    draw = np.random.default_rng(1)
    for n_objectives in (1, 2, 3):
        points = draw.integers(0, 6, (7, n_objectives))
        results: list[Result | None] = [Result(tuple(map(float, row))) for row in points]
        cells = itertools.product(range(-1, 6), repeat=n_objectives)
        covered = sum(any((np.array(cell) < row).all() for row in points) for cell in cells)
        assert hypervolume([*results, None], [-1.0] * n_objectives) == pytest.approx(covered)


def test_what_breaks_a_limit_covers_nothing() -> None:
    assert hypervolume([Result((5.0, 5.0), 0.1), None], [0.0, 0.0]) == 0.0
    assert hypervolume([Result((2.0, 3.0)), Result((5.0, 5.0), 0.1)], [0.0, 0.0]) == 6.0
    assert hypervolume([Result((-1.0, 3.0))], [0.0, 0.0]) == 0.0
