"""Known answers of the worst entry relative to its best parent: its value, its interval, differences, estimates."""

import math

import numpy as np
import pytest

from evomerge.errors import ConfigError, EvaluationError
from evomerge.evaluation.intervals import Z, mean_score, wilson
from evomerge.evaluation.objective import Objectives, RecipeTerm
from evomerge.evaluation.task import WORST, TaskSpec, combination_problems
from evomerge.evaluation.worst import (
    Ratio,
    correlation,
    difference_error,
    estimated_ratio,
    paired_ratio,
    upper_z,
    worst_difference,
    worst_score,
)
from evomerge.record import ItemScore, Score, Split

ADD = TaskSpec("add", "acc", direction="maximize", weight=2.0)
REVERSE = TaskSpec("reverse", "acc", direction="maximize")
TOKENS = TaskSpec("add", "tokens", direction="minimize", weight=0.001)


def rows(task: str, right: int, tokens: float = 10.0, n: int = 10) -> list[ItemScore]:
    return [ItemScore(task, i, {"acc": float(i < right), "tokens": tokens}) for i in range(n)]


def both(add: int, reverse: int, tokens: float = 10.0) -> list[ItemScore]:
    return rows("add", add, tokens) + rows("reverse", reverse)


def judge(*specs: TaskSpec, **options) -> Objectives:
    objective = Objectives(specs or (ADD, REVERSE), parents=["a", "b"], combination=WORST, **options)
    for split in (Split.SEARCH, Split.TEST):
        objective.note_baseline("a", split, both(8, 0, 20.0))
        objective.note_baseline("b", split, both(2, 5, 40.0))
        objective.note_baseline("average", split, both(10, 10, 1.0))  # no parent
    return objective


def bits(*values: int) -> np.ndarray:
    return np.array(values, float)


@pytest.mark.parametrize(
    ("add", "reverse", "expected"), [(8, 5, 1.0), (4, 5, 0.5), (10, 1, 0.2), (0, 9, 0.0), (10, 10, 1.25), (6, 4, 0.75)]
)
def test_the_value_is_the_smallest_share_of_a_best_parent(add: int, reverse: int, expected: float) -> None:
    objective = judge()
    assert objective.result(both(add, reverse)).objectives == pytest.approx((expected,))
    assert objective.result_of([add / 10, reverse / 10]).objectives == pytest.approx((expected,))
    assert objective.score(both(add, reverse)).mean == pytest.approx(expected)
    assert objective.score(both(add, reverse), objective=WORST).mean == pytest.approx(expected)
    (one,) = objective.objectives
    assert (one.name, one.direction, one.weight) == (WORST, "maximize", 1.0)


def test_a_parent_is_as_good_as_the_skill_that_it_lacks() -> None:
    objective = judge()
    assert objective.result(both(8, 0)).objectives == (0.0,)
    assert objective.result(both(2, 5)).objectives == pytest.approx((0.25,))


def test_weights_only_say_whether_an_entry_counts() -> None:
    heavy = judge(TaskSpec("add", "acc", direction="maximize", weight=100.0), REVERSE)
    assert heavy.result(both(4, 1)).objectives == judge().result(both(4, 1)).objectives == pytest.approx((0.2,))
    measured = judge(ADD, TaskSpec("reverse", "acc", direction="maximize", weight=0.0))
    assert measured.result(both(4, 0)).objectives == pytest.approx((0.5,))
    assert measured.result(both(4, 0)).measures["reverse, acc"] == 0.0


def test_each_entry_of_a_task_is_one_and_less_may_be_better() -> None:
    objective = judge(ADD, TOKENS)
    assert objective.result(rows("add", 8, 25.0)).objectives == pytest.approx((0.75,))  # the shortest parent has 20
    assert objective.result(rows("add", 4, 10.0)).objectives == pytest.approx((0.5,))
    assert objective.result(rows("add", 8, 10.0)).objectives == pytest.approx((1.0,))


def test_what_no_parent_can_do_counts_in_its_own_unit() -> None:
    objective = Objectives([ADD, REVERSE], parents=["a"], combination=WORST)
    objective.note_baseline("a", Split.SEARCH, both(8, 0))
    assert objective.result(both(8, 0)).objectives == (1.0,)
    assert objective.result(both(10, 1)).objectives == pytest.approx((1.1,))
    assert objective.score(both(10, 1)).high > 1.1


def test_recipe_terms_and_limits_stand_beside_it() -> None:
    objective = judge(recipe_terms=[RecipeTerm("layers", -0.1, lambda recipe: 2.0)])
    assert objective.result(both(8, 5), recipe=object()).objectives == pytest.approx((0.8,))  # type: ignore[arg-type]
    assert objective.score(both(8, 5)).mean == 1.0


def test_it_makes_one_objective_and_needs_parents() -> None:
    named = TaskSpec("add", "acc", direction="maximize", objective="skill")
    (problem,) = combination_problems([named, REVERSE], WORST)
    assert "leave its `objective: skill` out" in problem
    with pytest.raises(ConfigError, match="makes one objective of all entries"):
        judge(named)
    with pytest.raises(ConfigError, match="relative to its best parent, but no parents are given"):
        Objectives([ADD], combination=WORST)
    with pytest.raises(ConfigError, match=r"unknown way to make one objective of the tasks 'wrost'.*worst"):
        Objectives([ADD], combination="wrost")


def test_a_parent_that_was_not_scored_is_named() -> None:
    with pytest.raises(EvaluationError, match="parent 'a' has no validation scores"):
        judge().score(both(1, 1), Split.VALIDATION)


def test_the_interval_of_a_ratio_of_shares_is_that_of_bonett_and_price() -> None:
    # By hand: 20 items, 6 right for both, 4 for the first alone, 2 for the second alone.
    first, second = bits(*[1] * 10, *[0] * 10), bits(*[1] * 6, *[0] * 4, 1, 1, *[0] * 8)
    a = math.sqrt((6 + 2) / (11 * 9))
    b, c = math.sqrt((1 - 11 / 14) / 11), math.sqrt((1 - 9 / 14) / 9)
    z = Z * a / (b + c)
    (l1, u1), (l2, u2) = wilson(10, 12, z=z), wilson(8, 12, z=z)
    assert paired_ratio(10.0, 8.0, 12.0, 6.0) == pytest.approx((l1 / u2, u1 / l2))
    score = Ratio("t", first, second).interval()
    assert (score.mean, score.low, score.high) == pytest.approx((1.25, l1 / u2, u1 / l2))
    fewer = Ratio("t", first, second, -1.0).interval()  # the same values, of which less is better
    assert (fewer.mean, fewer.low, fewer.high) == pytest.approx((0.75, 2 - u1 / l2, 2 - l1 / u2))


def test_equal_answers_leave_some_doubt_and_more_items_less() -> None:
    few, many = (Ratio("t", bits(*[1] * n, *[0] * n), bits(*[1] * n, *[0] * n)).interval() for n in (5, 50))
    assert few.low < many.low < 1.0 < many.high < few.high
    same = np.array([3.0, 5.0, 4.0])
    score = Ratio("t", same, same).interval()
    assert score.low < 1.0 < score.high and math.isfinite(score.high)


def test_other_metrics_have_the_delta_method() -> None:
    generator = np.random.default_rng(0)
    best = generator.normal(-2.0, 0.3, 400)
    values = 1.1 * best + generator.normal(0.0, 0.05, 400)
    score = Ratio("t", values, best).interval()
    assert score.mean == pytest.approx(1.0 + (values.mean() - best.mean()) / abs(best.mean()))
    m = [np.mean(values[k]) / np.mean(best[k]) for k in generator.integers(0, 400, (2000, 400))]
    assert (score.high - score.low) / (2 * Z) == pytest.approx(np.std(m), rel=0.1)


def test_the_worst_has_the_lowest_lower_end_and_upper_ends_that_hold_together() -> None:
    ratios = judge().ratios(both(6, 4))
    score = worst_score(ratios)
    assert score.mean == pytest.approx(0.75) and score.n == 20
    assert score.low == min(one.interval().low for one in ratios)
    assert score.high == min(one.interval(upper_z(Z, 2)).high for one in ratios)
    assert upper_z(Z, 1) == Z and upper_z(Z, 2) == pytest.approx(2.2390, abs=1e-4)  # 1 - 0.975^(1/2) = 1.258 %
    assert worst_score(ratios[:1]) == ratios[0].interval()


def test_two_models_with_the_same_worst_task_are_compared_in_pairs() -> None:
    best = bits(*[1] * 40)
    first, second = [Ratio("t", bits(*[1] * 30, *[0] * 10), best)], [Ratio("t", bits(*[1] * 28, *[0] * 12), best)]
    other = [Ratio("u", bits(*[1] * 28, *[0] * 12), best)]
    paired, apart = worst_difference(first, second), worst_difference(first, other)
    assert paired.mean == apart.mean == pytest.approx(0.05)
    assert paired.high - paired.low < 0.6 * (apart.high - apart.low)
    assert correlation(first[0], second[0]) > 0.8 and correlation(first[0], other[0]) == 0.0
    gaps = first[0].values - second[0].values
    assert difference_error(first, second) == pytest.approx(math.sqrt(gaps.var(ddof=1) / 40))
    assert difference_error(first, other) == pytest.approx(
        math.hypot(*(math.sqrt(one.values.var(ddof=1) / 40) for one in (first[0], other[0])))
    )
    turned = worst_difference(second, first)
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-paired.mean, -paired.high, -paired.low))


def test_estimates_are_relative_too_and_their_error_is_of_those_that_may_be_the_worst() -> None:
    objective = judge()
    value, error = objective.estimate([0.4, 0.45], [0.01, 0.01])
    assert (value, error) == pytest.approx((0.5, 0.01 / 0.8))
    value, error = objective.estimate([0.4, 0.26], [0.01, 0.05])  # 0.50 and 0.52, which may well be less
    assert (value, error) == pytest.approx((0.5, 0.05 / 0.5))

    def terms(z: float) -> list[Score]:
        return [Score(mean, mean - 0.05 * z, mean + 0.05 * z, 10) for mean in (0.4, 0.45)]

    score = objective.estimated_score(terms)
    assert score.mean == pytest.approx(0.5)
    parent = mean_score([1.0] * 8 + [0.0] * 2)
    assert score.low == pytest.approx(0.5 - math.hypot(0.05 * Z, 0.5 * (parent.high - 0.8)) / 0.8)
    fewer = estimated_ratio(Score(30.0, 28.0, 33.0, 5), Score(20.0, 19.0, 22.0, 5), -1.0)
    assert fewer.mean == 0.5
    assert fewer.low == pytest.approx(0.5 - math.hypot(3.0, 1.5 * 1.0) / 20)
    assert fewer.high == pytest.approx(0.5 + math.hypot(2.0, 1.5 * 2.0) / 20)


def test_items_that_are_not_judged_for_both_do_not_count() -> None:
    objective = judge()
    scores = both(8, 5)
    scores[0] = ItemScore("add", 0, {"tokens": 1.0})
    assert [len(one.values) for one in objective.ratios(scores)] == [9, 10]
    assert objective.result(scores).objectives == objective.result(both(8, 5)).objectives == (1.0,)
    nothing = [ItemScore("add", i, {"acc": 1.0}) for i in range(10, 12)] + rows("reverse", 5)
    with pytest.raises(EvaluationError, match="no item has a value of 'acc' for both the model and its best parent"):
        objective.score(nothing)


NORMAL = np.sort(np.random.default_rng(1).standard_normal(20_000))


def models(generator: np.random.Generator, n: int, rates: list[float]) -> list[np.ndarray]:
    """Answers of models that agree on most items."""
    difficulty = generator.standard_normal(n)
    limits = [NORMAL[int(rate * len(NORMAL))] for rate in rates]
    return [(0.7 * difficulty + 0.714 * generator.standard_normal(n) < limit).astype(float) for limit in limits]


@pytest.mark.parametrize(
    "rates",
    [
        [(0.9, 0.6, 0.6), (0.8, 0.6, 0.6), (0.7, 0.6, 0.6)],  # both models' worst is the first
        [(0.9, 0.8, 0.3), (0.8, 0.3, 0.7), (0.7, 0.6, 0.6)],  # each has another
        [(0.9, 0.72, 0.72), (0.8, 0.64, 0.64), (0.7, 0.56, 0.56)],  # all are equally bad
    ],
)
def test_intervals_hold_their_level(rates: list[tuple[float, float, float]]) -> None:
    generator, runs, n = np.random.default_rng(0), 400, 60
    true = [min(one[k] / one[0] for one in rates) for k in (1, 2)]
    missed = np.zeros(2)
    for _ in range(runs):
        drawn = [models(generator, n, list(one)) for one in rates]
        first, second = ([Ratio(str(t), row[k], row[0]) for t, row in enumerate(drawn)] for k in (1, 2))
        score, gap = worst_score(first), worst_difference(first, second)
        missed += [not score.low <= true[0] <= score.high, not gap.low <= true[0] - true[1] <= gap.high]
    assert (missed / runs <= 0.07).all(), missed / runs
