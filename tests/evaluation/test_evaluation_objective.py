"""Fitness and intervals against independent formulas."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats

from evomerge.errors import ConfigError, EvaluationError
from evomerge.evaluation.intervals import Z, mean_score, student_quantile, weighted_sum, wilson
from evomerge.evaluation.objective import Objective
from evomerge.evaluation.task import TaskSpec
from evomerge.record import ItemScore, Score


def items(task: str, values: list[float], metric: str = "acc") -> list[ItemScore]:
    return [ItemScore(task, i, {metric: value, "other": 9.0}) for i, value in enumerate(values)]


@pytest.mark.parametrize("df", [1, 2, 3, 6.5, 10, 30, 99, 1000, 50_000])
@pytest.mark.parametrize("q", [0.6, 0.9, 0.975, 0.995])
def test_students_quantile_equals_scipys(q: float, df: float) -> None:
    assert student_quantile(q, df) == pytest.approx(stats.t.ppf(q, df), rel=1e-8)


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 7), (3, 7), (7, 7), (50, 100), (1319, 1319), (400, 1319)])
def test_wilsons_interval_equals_scipys(right: int, n: int) -> None:
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    score = mean_score([1.0] * right + [0.0] * (n - right))
    assert (score.low, score.high, score.n) == (*wilson(right, n), n)
    assert score.low <= score.mean <= score.high


@pytest.mark.parametrize("n", [2, 3, 7, 200])
def test_a_continuous_metric_has_students_interval(n: int) -> None:
    values = np.random.default_rng(n).normal(3, 2, n)
    score = mean_score(list(values))
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert (score.mean, score.low, score.high) == pytest.approx((values.mean(), low, high), rel=1e-9)


def test_one_value_says_nothing_of_its_spread_and_equal_values_have_none() -> None:
    assert mean_score([0.5]) == Score(0.5, -math.inf, math.inf, 1)
    assert mean_score([0.5, 0.5, 0.5]) == Score(0.5, 0.5, 0.5, 3)
    low, high = wilson(1, 1)
    assert mean_score([1.0]) == Score(1.0, low, high, 1)
    assert low == pytest.approx(1 / (1 + Z**2))


def test_one_maximised_task_is_its_mean_and_one_minimised_task_its_negative() -> None:
    scores = items("t", [1.0, 0.0, 0.0, 1.0, 1.0])
    up = Objective([TaskSpec("t", "acc", weight=7, direction="maximize")])
    down = Objective([TaskSpec("t", "acc", weight=7, direction="minimize")])
    assert up.fitness(scores) == pytest.approx(0.6)
    assert down.fitness(scores) == pytest.approx(-0.6)
    low, high = wilson(3, 5)
    assert (up.score(scores).low, up.score(scores).high) == pytest.approx((low, high))
    assert (down.score(scores).low, down.score(scores).high) == pytest.approx((-high, -low))
    assert down.task_scores(scores)["t"].mean == pytest.approx(0.6)


def test_weights_are_normalised_and_tasks_count_by_weight_not_by_number_of_items() -> None:
    objective = Objective(
        [
            TaskSpec("a", "acc", weight=3, direction="maximize"),
            TaskSpec("b", "loss", weight=1, direction="minimize"),
            TaskSpec("c", "acc", weight=0, direction="maximize"),
        ]
    )
    scores = items("b", [2.0, 4.0], "loss") + items("a", [1.0] * 30 + [0.0] * 10) + items("c", [1.0])
    assert objective.weights == pytest.approx((0.75, -0.25, 0.0))
    assert objective.fitness(scores) == pytest.approx(0.75 * 0.75 - 0.25 * 3.0)
    score = objective.score(scores)
    assert (score.mean, score.n) == (pytest.approx(objective.fitness(scores)), 43)
    a, b = stats.binomtest(30, 40).proportion_ci(0.95, "wilson"), stats.t.interval(0.95, 1, loc=3, scale=1)
    assert score.low == pytest.approx(score.mean - math.hypot(0.75 * (0.75 - a.low), 0.25 * (b[1] - 3)))
    assert score.high == pytest.approx(score.mean + math.hypot(0.75 * (a.high - 0.75), 0.25 * (3 - b[0])))


def test_the_interval_of_a_weighted_sum_holds_the_truth_about_95_times_in_100() -> None:
    rng = random.Random(5)
    objective = Objective([TaskSpec(name, "acc", weight=w, direction="maximize") for name, w in (("a", 1), ("b", 2))])
    truth = (0.9 + 2 * 0.3) / 3
    held = 0
    for _ in range(1000):
        scores = items("a", [float(rng.random() < 0.9) for _ in range(40)])
        scores += items("b", [float(rng.random() < 0.3) for _ in range(60)])
        score = objective.score(scores)
        held += score.low <= truth <= score.high
    assert 930 <= held <= 970


def test_a_weight_of_zero_ignores_an_unbounded_interval() -> None:
    assert weighted_sum([Score(0.5, 0.4, 0.6, 9), mean_score([0.3])], [1.0, 0.0]) == Score(0.5, 0.4, 0.6, 10)


def test_a_filter_is_part_of_the_key_only_where_a_task_has_several() -> None:
    objective = Objective([TaskSpec("t", "acc", filter="strict", direction="maximize")])
    assert objective.fitness([ItemScore("t", 0, {"acc,strict": 1.0, "acc,loose": 0.0})]) == 1.0
    assert objective.fitness([ItemScore("t", 0, {"acc": 0.25})]) == 0.25


def test_missing_items_metrics_and_values_that_are_not_finite_are_refused() -> None:
    objective = Objective([TaskSpec("t", "acc", direction="maximize")])
    with pytest.raises(EvaluationError, match="'t' has no scored items"):
        objective.fitness([])
    with pytest.raises(EvaluationError, match="item 3: no metric 'acc'; the item has f1"):
        objective.fitness([ItemScore("t", 3, {"f1": 1.0})])
    with pytest.raises(EvaluationError, match="item 3: metric 'acc' is nan"):
        objective.score([ItemScore("t", 3, {"acc": math.nan})])
    with pytest.raises(EvaluationError, match="an item of task 'u' came, but the objective has the tasks t"):
        objective.score([ItemScore("u", 3, {"acc": 1.0})])


def test_an_objective_needs_directions_and_says_every_mistake() -> None:
    with pytest.raises(ConfigError, match="task 'a': the objective needs a direction") as caught:
        Objective([TaskSpec("a", "acc"), TaskSpec("b", "acc", weight=-1, direction="maximize")])
    assert len(caught.value.problems) == 2
