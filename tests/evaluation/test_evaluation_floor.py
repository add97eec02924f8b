"""Known answers of floors: what they are relative to, what breaks them, and where they make no sense."""

import dataclasses
import math

import pytest

from evomerge.errors import ConfigError, EvaluationError
from evomerge.evaluation.floor import Floor, read_floor, relative
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import Constraint, TaskSpec, spec_problems
from evomerge.record import ItemScore, Split

ADD = TaskSpec("add", "acc", direction="maximize", weight=2.0)
REVERSE = TaskSpec("reverse", "acc", direction="maximize", weight=1.0)


def right(task: str, n: int, of: int = 10) -> list[ItemScore]:
    return [ItemScore(task, i, {"acc": float(i < n)}) for i in range(of)]


def both(add: int, reverse: int) -> list[ItemScore]:
    return right("add", add) + right("reverse", reverse)


def with_floor(floor: Floor, *, split: Split = Split.SEARCH) -> Objectives:
    objective = Objectives([ADD, dataclasses.replace(REVERSE, floor=floor)], parents=["a", "b"])
    objective.note_baseline("a", split, both(9, 0))
    objective.note_baseline("b", split, both(1, 8))
    objective.note_baseline("average", split, both(5, 10))  # no parent, so it is nobody's best parent
    return objective


def test_a_skill_that_a_sum_would_sell_is_kept_by_a_floor() -> None:
    objective = with_floor(Floor(of_best_parent=0.75))
    sold, kept = objective.result(both(10, 5)), objective.result(both(6, 6))
    assert sold.objectives == pytest.approx((2 / 3 + 5 / 30,)) and kept.objectives == pytest.approx((0.6,))
    assert sold.violation == pytest.approx((0.6 - 0.5) / 0.6) and kept.violation == 0.0
    assert sold.scalar([1.0]) < kept.scalar([1.0])
    assert objective.violated(both(10, 5)) == [
        "reverse, acc is 0.5, below its floor of 0.6 (75 % of the best parent, b: 0.8)"
    ]
    assert objective.score(both(10, 5)).mean == pytest.approx(2 / 3 + 5 / 30)  # the entry keeps its weight
    assert set(objective.references) == {"a", "b"} and objective.compares


@pytest.mark.parametrize(
    ("floor", "limit"),
    [
        (Floor(absolute=0.6), 0.6),
        (Floor(of_best_parent=0.75), 0.6),
        (Floor(below_best_parent=0.2), 0.6),
        (Floor(of_best_parent=1.0), 0.8),
        (Floor(below_best_parent=0.0), 0.8),
        (Floor(of_best_parent=1.25), 1.0),
    ],
)
def test_each_kind_of_floor_by_known_answers(floor: Floor, limit: float) -> None:
    objective = with_floor(floor)
    for n in range(11):
        expected = 0.0 if n / 10 >= limit - 1e-9 else (limit - n / 10) / limit
        assert objective.result(both(5, n)).violation == pytest.approx(expected), n
        assert objective.result_of([0.5, n / 10]).violation == pytest.approx(expected), n


def test_the_best_parent_is_the_best_on_the_same_items_and_split() -> None:
    objective = with_floor(Floor(of_best_parent=1.0))
    objective.note_baseline("a", Split.TEST, both(9, 3))
    objective.note_baseline("b", Split.TEST, both(9, 2))
    assert objective.result(both(5, 3), Split.TEST).violation == 0.0  # 0.3 is the best there
    last = [score for score in both(5, 10) if score.item >= 8]  # which b, the best on all, has wrong
    assert objective.violated([*right("add", 5), *[one for one in last if one.task == "reverse"]]) == []
    with pytest.raises(EvaluationError, match="the best parent in 'acc' is needed, but parent 'a' has no validation"):
        objective.result(both(5, 5), Split.VALIDATION)


def test_a_metric_below_zero_may_become_worse_by_the_share_and_zero_stays_zero() -> None:
    assert Floor(of_best_parent=0.9).limit(-2.0) == pytest.approx(-2.2)
    assert Floor(of_best_parent=0.9).limit(0.0) == 0.0
    assert Floor(below_best_parent=0.5).limit(-2.0) == -2.5
    assert Floor(of_best_parent=0.95).violation(19 / 20, 1.0) == 0.0  # rounding breaks no floor
    assert Floor(absolute=0.0).violation(-0.5, None) == 0.5  # a limit of 0 has no unit


@pytest.mark.parametrize(
    ("mean", "best", "sign", "expected"),
    [
        (0.4, 0.8, 1.0, 0.5),
        (0.8, 0.8, 1.0, 1.0),
        (1.0, 0.8, 1.0, 1.25),
        (-2.2, -2.0, 1.0, 0.9),
        (-1.0, -2.0, 1.0, 1.5),
        (30.0, 20.0, -1.0, 0.5),
        (10.0, 20.0, -1.0, 1.5),
        (0.3, 0.0, 1.0, 1.3),
        (0.3, 0.0, -1.0, 0.7),
    ],
)
def test_relative_to_the_best_parent_by_known_answers(mean: float, best: float, sign: float, expected: float) -> None:
    assert relative(mean, best, sign) == pytest.approx(expected)


def test_short_forms() -> None:
    assert read_floor(0.6) == {"absolute": 0.6} and read_floor(1) == {"absolute": 1}
    assert read_floor("95%") == read_floor(" 95 % ") == {"of_best_parent": 0.95}
    assert read_floor("110%") == {"of_best_parent": 1.1}
    for other in ("95", "abc%", True, {"absolute": 1.0}, None):
        assert read_floor(other) is other


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"floor": Floor()}, "a floor has one of absolute, of_best_parent, below_best_parent, but 0 of them came"),
        ({"floor": Floor(0.5, 0.9)}, "but 2 of them came"),
        ({"floor": Floor(math.inf)}, "`absolute` must be a finite number, but came inf"),
        ({"floor": Floor(of_best_parent=True)}, "`of_best_parent` must be a finite number, but came True"),
        ({"floor": Floor(of_best_parent=0.0)}, r"above 0 and not beyond 10 \(0.95, or 95%\), but came 0.0"),
        ({"floor": Floor(of_best_parent=95)}, r"above 0 and not beyond 10 \(0.95, or 95%\), but came 95"),
        ({"floor": Floor(below_best_parent=-0.1)}, "distance below the best parent must be at least 0.*came -0.1"),
        ({"floor": Floor(0.5), "direction": "minimize"}, r"'acc' is to be small, so it has no floor.*{max: …}"),
        ({"floor": Floor(0.5), "constraint": Constraint(min=0.2), "weight": 0.0}, "has a constraint and a floor"),
    ],
)
def test_a_floor_that_makes_no_sense_is_refused(spec: dict, said: str) -> None:
    problems = spec_problems([ADD, dataclasses.replace(REVERSE, **spec)])
    assert len(problems) == 1
    with pytest.raises(ConfigError, match=said):
        Objectives([ADD, dataclasses.replace(REVERSE, **spec)], parents=["a"])


def test_a_relative_floor_needs_parents_and_an_absolute_one_none() -> None:
    with pytest.raises(ConfigError, match="its floor is relative to the best parent, but no parents are given"):
        Objectives([dataclasses.replace(ADD, floor=Floor(of_best_parent=1.0))])
    alone = Objectives([dataclasses.replace(ADD, floor=Floor(absolute=0.5))])
    assert not alone.compares and alone.references == ()
    assert alone.violated(right("add", 4)) == ["add, acc is 0.4, below its floor of 0.5"]


def test_a_parent_that_has_no_value_is_named_whoever_is_judged() -> None:
    objective = with_floor(Floor(of_best_parent=1.0))
    objective.note_baseline("b", Split.SEARCH, [ItemScore("reverse", 3, {"acc": math.nan})])
    with pytest.raises(EvaluationError, match=r"parent 'b', which may be the best.*item 3: metric 'acc' is nan"):
        objective.result(both(5, 5))


def test_an_entry_of_weight_zero_may_have_a_floor() -> None:
    measured = dataclasses.replace(REVERSE, weight=0.0, floor=Floor(absolute=0.5))
    assert Objectives([ADD, measured]).result(both(10, 4)).violation == pytest.approx(0.2)
