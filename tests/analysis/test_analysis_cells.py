"""Cells of two measures: where their edges are, and who is the best in each."""

from evomerge.analysis.cells import best_by_cell, cell_of, edges_of
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Record, Result, State

RECIPE = Recipe("linear", (Parent("a", ModelSource("a")),))


def record(number: int, fitness: float | None, **measures: float) -> Record:
    result = None if fitness is None else Result((fitness,), 0.0, measures)
    return Record(number, f"candidate {number}", State.COMPLETE, RECIPE, fitness=fitness, result=result)


def test_whole_numbers_have_cells_of_their_own() -> None:
    assert edges_of([3.0, 5.0, 4.0], 12) == [2.5, 3.5, 4.5, 5.5]
    assert edges_of([0.0, 0.5, 2.0], 4) == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert edges_of([0.0, 100.0], 4) == [0.0, 25.0, 50.0, 75.0, 100.0]
    assert edges_of([7.0, 7.0], 4) == [6.5, 7.5]


def test_the_last_cell_holds_the_largest_value() -> None:
    edges = [0.0, 0.5, 1.0]
    assert [cell_of(value, edges) for value in (0.0, 0.49, 0.5, 1.0)] == [0, 0, 1, 1]


def test_the_best_of_each_cell_is_the_oldest_of_equal_ones() -> None:
    records = [
        record(0, 0.5, x=0.1, y=0.1),
        record(1, 0.9, x=0.2, y=0.2),
        record(2, 0.9, x=0.3, y=0.3),
        record(3, 0.1, x=0.9, y=0.1),
        record(4, None),
        record(5, 1.0, x=0.1),  # has not both
        record(6, 1.0, x=float("nan"), y=0.1),
    ]
    cells = best_by_cell(records, "x", "y", [0.0, 0.5, 1.0], [0.0, 0.5, 1.0])
    assert [(one.x, one.y, one.best.number, one.n) for one in cells] == [(0, 0, 1, 3), (1, 0, 3, 1)]


def test_infeasible_candidates_stand_below_feasible_ones() -> None:
    cells = best_by_cell([record(0, -1e9, x=0.0, y=0.0), record(1, -0.5, x=0.0, y=0.0)], "x", "y", [-1, 1], [-1, 1])
    assert [(one.best.number, one.n) for one in cells] == [(1, 2)]
