"""Fitness and intervals against independent formulas."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any

import numpy as np
import pytest
from evaluation_helpers import fitness, fitness_of, term_scores
from scipy import stats

from evomerge.errors import ConfigError, EvaluationError
from evomerge.evaluation.intervals import Z, mean_score, student_deviate, student_p, weighted_sum, wilson
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import ANSWER, Constraint, TaskSpec
from evomerge.record import INFEASIBLE, ItemScore, Score, Split


def items(task: str, values: list[float], metric: str = "acc") -> list[ItemScore]:
    return [ItemScore(task, i, {metric: value, "other": 9.0}) for i, value in enumerate(values)]


@pytest.mark.parametrize("df", [1, 2, 3, 6.5, 10, 30, 99, 1000, 50_000])
@pytest.mark.parametrize("z", [0.1, 0.5, 1.0, 1.96, 3.0, 8.0])
def test_students_deviates_and_p_values_equal_scipys(z: float, df: float) -> None:
    expected = float(stats.t.isf(stats.norm.sf(z), df))
    assert student_deviate(z, df) == pytest.approx(expected, rel=1e-6)
    assert student_p(-expected, df) == pytest.approx(2 * stats.norm.sf(z), rel=1e-8)


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


def test_values_that_are_all_equal_leave_the_doubt_that_so_few_items_leave() -> None:
    assert mean_score([7.5]) == Score(7.5, -math.inf, math.inf, 1)
    share = Z**2 / (3 + Z**2)  # of items that three items may all fail to show
    score = mean_score([0.3, 0.3, 0.3])
    assert (score.low, score.high) == pytest.approx((0.3 - 0.3 * share, 0.3 + 0.7 * share))
    score = mean_score([-2.0, -2.0, -2.0])
    assert (score.low, score.high) == pytest.approx((-2.0 - 2.0 * share, -2.0 + 2.0 * share))
    assert mean_score([0.1 + 0.2, 0.3]).high > 0.5  # equal up to rounding
    assert mean_score([0.0] * 40 + [0.001]).low < 0.0  # not equal: Student's
    low, high = wilson(1, 1)
    assert mean_score([1.0]) == Score(1.0, low, high, 1)
    assert low == pytest.approx(1 / (1 + Z**2))


def test_one_maximised_task_is_its_mean_and_one_minimised_task_its_negative() -> None:
    scores = items("t", [1.0, 0.0, 0.0, 1.0, 1.0])
    up = Objectives([TaskSpec("t", "acc", weight=7, direction="maximize")])
    down = Objectives([TaskSpec("t", "acc", weight=7, direction="minimize")])
    assert fitness(up, scores) == pytest.approx(0.6)
    assert fitness(down, scores) == pytest.approx(-0.6)
    low, high = wilson(3, 5)
    assert (up.score(scores).low, up.score(scores).high) == pytest.approx((low, high))
    assert (down.score(scores).low, down.score(scores).high) == pytest.approx((-high, -low))
    assert term_scores(down, scores)[0].mean == pytest.approx(0.6)


def test_weights_are_normalised_and_tasks_count_by_weight_not_by_number_of_items() -> None:
    objective = Objectives(
        [
            TaskSpec("a", "acc", weight=3, direction="maximize"),
            TaskSpec("b", "loss", weight=1, direction="minimize"),
            TaskSpec("c", "acc", weight=0, direction="maximize"),
        ]
    )
    scores = items("b", [2.0, 4.0], "loss") + items("a", [1.0] * 30 + [0.0] * 10) + items("c", [1.0])
    assert objective.weights == pytest.approx((0.75, -0.25, 0.0))
    assert fitness(objective, scores) == pytest.approx(0.75 * 0.75 - 0.25 * 3.0)
    score = objective.score(scores)
    assert (score.mean, score.n) == (pytest.approx(fitness(objective, scores)), 43)
    a, b = stats.binomtest(30, 40).proportion_ci(0.95, "wilson"), stats.t.interval(0.95, 1, loc=3, scale=1)
    assert score.low == pytest.approx(score.mean - math.hypot(0.75 * (0.75 - a.low), 0.25 * (b[1] - 3)))
    assert score.high == pytest.approx(score.mean + math.hypot(0.75 * (a.high - 0.75), 0.25 * (3 - b[0])))


def test_the_interval_of_a_weighted_sum_holds_the_truth_about_95_times_in_100() -> None:
    rng = random.Random(5)
    objective = Objectives([TaskSpec(name, "acc", weight=w, direction="maximize") for name, w in (("a", 1), ("b", 2))])
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
    objective = Objectives([TaskSpec("t", "acc", filter="strict", direction="maximize")])
    assert fitness(objective, [ItemScore("t", 0, {"acc,strict": 1.0, "acc,loose": 0.0})]) == 1.0
    assert fitness(objective, [ItemScore("t", 0, {"acc": 0.25})]) == 0.25


def test_missing_items_metrics_and_values_that_are_not_finite_are_refused() -> None:
    objective = Objectives([TaskSpec("t", "acc", direction="maximize")])
    with pytest.raises(EvaluationError, match="'t' has no scored items"):
        fitness(objective, [])
    with pytest.raises(EvaluationError, match=r"none of 1 items has a value of 'acc', .* they have f1"):
        fitness(objective, [ItemScore("t", 3, {"f1": 1.0})])
    with pytest.raises(EvaluationError, match="item 3: metric 'acc' is nan"):
        objective.score([ItemScore("t", 3, {"acc": math.nan})])
    with pytest.raises(EvaluationError, match="an item of task 'u' came, but the objective has the tasks t"):
        objective.score([ItemScore("u", 3, {"acc": 1.0})])


def test_an_objective_needs_directions_and_says_every_mistake() -> None:
    with pytest.raises(ConfigError, match="task 'a': the objective needs a direction") as caught:
        Objectives([TaskSpec("a", "acc"), TaskSpec("b", "acc", weight=-1, direction="maximize")])
    assert len(caught.value.problems) == 2


def rows(task: str, **columns: list[float]) -> list[ItemScore]:
    """Items of one task with several metrics."""
    return [
        ItemScore(task, i, dict(zip(columns, values, strict=True)))
        for i, values in enumerate(zip(*columns.values(), strict=True))
    ]


def up(task: str, metric: str, weight: float = 1.0, **options: Any) -> TaskSpec:
    return TaskSpec(task, metric, weight=weight, **{"direction": "maximize", **options})


def limit(task: str, metric: str, **options: Any) -> TaskSpec:
    return TaskSpec(task, metric, weight=0.0, direction="minimize", **options)


TOKENS = TaskSpec("t", "tokens", weight=0.01, direction="minimize")


def test_two_metrics_of_one_task_are_two_terms_over_the_same_items() -> None:
    scores = rows("t", acc=[1.0, 0.0, 1.0, 1.0], tokens=[10.0, 90.0, 20.0, 40.0])
    objective = Objectives([up("t", "acc"), TOKENS])
    assert fitness(objective, scores) == pytest.approx((0.75 - 0.01 * 40.0) / 1.01)
    assert [score.mean for score in term_scores(objective, scores)] == [0.75, 40.0]
    score = objective.score(scores)
    # Answers and their lengths go together item by item, so the interval is that of one sample of differences.
    own = (np.array([1.0, 0.0, 1.0, 1.0]) - 0.01 * np.array([10.0, 90.0, 20.0, 40.0])) / 1.01
    low, high = stats.t.interval(0.95, 3, loc=own.mean(), scale=stats.sem(own))
    assert (score.mean, score.low, score.high) == pytest.approx((fitness(objective, scores), low, high))
    assert score.n == 4  # four items were scored, whatever was measured on them


def test_answers_are_told_item_by_item_and_their_means_make_the_fitness() -> None:
    scores = rows("t", acc=[1.0, 0.0], tokens=[10.0, 90.0]) + rows("u", acc=[1.0, 1.0, 0.0])
    limited = up("u", "acc", weight=0.0, constraint=Constraint(min=0.5))
    objective = Objectives([up("t", "acc"), TOKENS, up("u", "acc", weight=0.5), limited])
    answers = objective.answers(scores)
    assert tuple(answers) == objective.term_names == ("t, acc", "t, tokens", "u, acc", "u, acc (limit)")
    assert answers["t, tokens"] == {0: 10.0, 1: 90.0}
    assert answers["u, acc"] == answers["u, acc (limit)"] == {0: 1.0, 1: 1.0, 2: 0.0}
    means = [sum(values.values()) / len(values) for values in answers.values()]
    assert fitness_of(objective, means) == fitness(objective, scores) == pytest.approx((0.5 - 0.5 + 0.5 * 2 / 3) / 1.51)
    assert fitness_of(objective, [0.5, 50.0, 0.25, 0.25]) == pytest.approx(-INFEASIBLE - 0.5, abs=1e-6)
    assert objective.answers(scores[:2])["u, acc"] == {}  # where only some tasks were asked


def test_the_weighted_sum_is_that_of_the_tasks_with_one_value_per_item() -> None:
    scores = rows("t", acc=[1.0, 0.0], tokens=[10.0, 90.0]) + rows("u", acc=[1.0, 1.0, 0.0])
    objective = Objectives([up("t", "acc"), TOKENS, up("u", "acc", weight=0.5), up("u", "other", weight=0.0)])
    scores = [dataclasses.replace(one, metrics={"other": 0.0, **one.metrics}) for one in scores]
    values, weights = objective.task_values(scores), objective.task_weights
    assert values["u"] == {0: 1.0, 1: 1.0, 2: 0.0} and weights == {"t": 1.0, "u": pytest.approx(0.5 / 1.51)}
    assert values["t"][1] == pytest.approx(-0.9 / 1.51)
    means = {task: sum(own.values()) / len(own) for task, own in values.items()}
    assert sum(weights[task] * means[task] for task in means) == pytest.approx(fitness(objective, scores))


def test_entries_that_differ_in_filter_or_reference_have_names_of_their_own() -> None:
    objective = Objectives(
        [up("t", "acc", filter="strict"), up("t", "acc", filter="loose"), FLIPS, dataclasses.replace(FLIPS, of="f1")]
    )
    assert len(set(objective.term_names)) == 4


def test_a_measured_metric_without_weight_leaves_the_interval_alone() -> None:
    scores = rows("t", acc=[1.0, 0.0, 1.0, 1.0], tokens=[10.0, 90.0, 20.0, 40.0])
    alone, beside = Objectives([up("t", "acc")]), Objectives([up("t", "acc"), up("t", "tokens", weight=0.0)])
    assert beside.score(scores) == alone.score(scores)
    assert (alone.score(scores).low, alone.score(scores).high) == pytest.approx(wilson(3, 4))


def test_a_broken_limit_ranks_below_every_feasible_candidate_and_by_how_far_it_is_broken() -> None:
    objective = Objectives([up("t", "acc"), limit("t", "refused", constraint=Constraint(max=0.25))])
    n = 8

    def candidate(right: int, refused: int) -> list[ItemScore]:
        return rows("t", acc=[1.0] * right + [0.0] * (n - right), refused=[1.0] * refused + [0.0] * (n - refused))

    order = [candidate(8, 2), candidate(1, 0), candidate(0, 2), candidate(8, 3), candidate(0, 4), candidate(8, 8)]
    found = [fitness(objective, scores) for scores in order]
    assert found == sorted(found, reverse=True) and len(set(found)) == len(found)
    assert found[:3] == [1.0, 0.125, 0.0]
    assert found[3] == pytest.approx(-INFEASIBLE - (0.375 - 0.25) / 0.25, abs=1e-6)
    assert objective.score(order[-1]).mean == 1.0  # the plain sum, for people
    assert [objective.violated(scores) for scores in order[:3]] == [[], [], []]
    assert objective.violated(order[3]) == ["t, refused is 0.375, but must be at most 0.25"]


@pytest.mark.parametrize(
    ("constraint", "mean", "violation"),
    [
        (Constraint(max=0.2), 0.2, 0.0),
        (Constraint(max=0.2), 0.3, 0.5),
        (Constraint(max=0.0), 0.3, 0.3),
        (Constraint(min=0.8), 0.9, 0.0),
        (Constraint(min=0.8), 0.4, 0.5),
        (Constraint(min=0.0), -2.0, 2.0),
        (Constraint(max=-4.0), -2.0, 0.5),
    ],
)
def test_a_violation_is_in_units_of_its_limit(constraint: Constraint, mean: float, violation: float) -> None:
    assert constraint.violation(mean) == pytest.approx(violation)


def test_violations_add_up_and_are_all_named() -> None:
    objective = Objectives(
        [
            up("t", "acc"),
            limit("t", "refused", constraint=Constraint(max=0.25)),
            up("u", "acc", weight=0.0, constraint=Constraint(min=0.5)),
        ]
    )
    scores = rows("t", acc=[1.0, 1.0], refused=[1.0, 0.0]) + rows("u", acc=[0.0, 0.0])
    assert fitness(objective, scores) == pytest.approx(-INFEASIBLE - 1.0 - 1.0, abs=1e-6)
    assert objective.violated(scores) == [
        "t, refused is 0.5, but must be at most 0.25",
        "u, acc is 0, but must be at least 0.5",
    ]


@pytest.mark.parametrize("value", [1e308, -1e200, math.inf, math.nan])
def test_a_value_whose_square_is_infinite_is_refused_like_an_infinite_one(value: float) -> None:
    objective = Objectives([TaskSpec("t", "acc", direction="minimize")])
    for judged in (objective.result, objective.score):
        with pytest.raises(EvaluationError, match="item 1: metric 'acc' is"):
            judged(items("t", [1.0, value, value]))
    assert objective.score(items("t", [1.0, 1e150, -1e150])).high < math.inf


def test_a_sum_so_low_that_it_would_rank_among_the_infeasible_is_refused() -> None:
    objective = Objectives([TOKENS, limit("t", "tokens", constraint=Constraint(max=1e12))])
    with pytest.raises(EvaluationError, match=r"must stay above -1e.09.*measure in larger units"):
        fitness(objective, rows("t", tokens=[2e9, 3e9]))
    assert fitness(Objectives([TOKENS]), rows("t", tokens=[2e9, 3e9])) == -2.5e9  # without limits there is no border


FLIPS = TaskSpec("t", "negative_flips", weight=1.0, direction="minimize", reference="math", of="acc")


def test_negative_flips_are_the_items_that_the_reference_has_right_and_the_candidate_wrong() -> None:
    objective = Objectives([FLIPS])
    assert objective.references == ("math",) and objective.compares
    reference, candidate = [1.0, 1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0, 0.0]
    objective.note_baseline("math", Split.SEARCH, items("t", reference))
    flipped = objective.answers(items("t", candidate))["t, negative_flips against math in acc"]
    assert flipped == {0: 0.0, 1: 1.0, 2: 1.0, 3: 0.0, 4: 0.0}
    assert fitness(objective, items("t", candidate)) == pytest.approx(-0.4)
    assert fitness(objective, items("t", reference)) == 0.0  # a model does not flip against itself
    score = term_scores(objective, items("t", candidate))[0]
    assert (score.low, score.high) == pytest.approx(wilson(2, 5))
    some = [score for score in items("t", candidate) if score.item in (2, 4)]
    assert fitness(objective, some) == -0.5


def test_flips_are_counted_on_the_split_that_the_items_are_of() -> None:
    objective = Objectives([FLIPS])
    objective.note_baseline("math", Split.SEARCH, items("t", [1.0, 1.0]))
    objective.note_baseline("math", Split.TEST, items("t", [0.0, 1.0]))
    candidate = items("t", [0.0, 0.0])
    assert fitness(objective, candidate) == -1.0
    assert objective.score(candidate, Split.TEST).mean == -0.5
    with pytest.raises(
        EvaluationError, match="against 'math' need its validation scores, but it was not scored before"
    ):
        fitness(objective, candidate, Split.VALIDATION)


def test_flips_take_the_filter_and_refuse_what_is_neither_right_nor_wrong_or_not_known() -> None:
    strict = Objectives([dataclasses.replace(FLIPS, filter="strict")])
    strict.note_baseline("math", Split.SEARCH, [ItemScore("t", 0, {"acc,strict": 1.0, "acc,loose": 0.0})])
    assert fitness(strict, [ItemScore("t", 0, {"acc,strict": 0.0, "acc,loose": 1.0})]) == -1.0
    with pytest.raises(
        EvaluationError, match="item 1: negative flips need the score of 'math', which was not scored on"
    ):
        fitness(strict, [ItemScore("t", 1, {"acc,strict": 0.0})])
    with pytest.raises(EvaluationError, match=r"item 0: 'acc' is 0.5, but negative flips need a metric that is 0 or 1"):
        fitness(strict, [ItemScore("t", 0, {"acc,strict": 0.5})])


ENTROPY = TaskSpec("t", "entropy", direction="minimize")


def answers(numbers: list[int], entropy: float = 0.5) -> list[ItemScore]:
    return rows("t", entropy=[entropy] * len(numbers), **{ANSWER: [float(number) for number in numbers]})


def test_a_model_that_answers_all_alike_is_refused_however_low_its_entropy() -> None:
    objective = Objectives([ENTROPY])
    objective.note_baseline("a", Split.SEARCH, answers([1, 2, 3, 4, 1, 2, 3, 4, 1, 2]))  # commonest: 3 of 10
    objective.note_baseline("b", Split.SEARCH, answers([1, 1, 1, 1, 2, 3, 4, 2, 3, 4]))  # commonest: 4 of 10
    varied, half, collapsed = (
        answers([5] * 5 + [1, 2, 3, 4, 6], 0.9),
        answers([1] * 6 + [2, 3, 4, 5]),
        answers([1] * 10),
    )
    assert fitness(objective, varied) == pytest.approx(-0.9)
    assert fitness(objective, half) == pytest.approx(-INFEASIBLE - (0.6 / 0.5 - 1.0), abs=1e-6)
    assert fitness(objective, varied) > fitness(objective, half) > fitness(objective, collapsed)
    (said,) = objective.violated(collapsed)
    assert "100.0% of the answers are the same, but at most 50.0% may be (40.0% with a baseline" in said
    wide = Objectives([dataclasses.replace(ENTROPY, collapse_margin=0.25)])
    wide.note_baseline("b", Split.SEARCH, answers([1, 1, 1, 1, 2, 3, 4, 2, 3, 4]))
    assert wide.violated(half) == [] and len(wide.violated(collapsed)) == 1


def test_the_guard_compares_on_the_items_that_the_candidate_was_scored_on() -> None:
    objective = Objectives([ENTROPY])
    objective.note_baseline("a", Split.SEARCH, answers([1, 1, 1, 2, 3, 4]))
    some = [score for score in answers([7, 7, 7, 7, 7, 7]) if score.item < 3]
    assert objective.violated(some) == []  # the baseline answers these three alike as well
    assert len(objective.violated(answers([7, 7, 7, 7, 7, 7]))) == 1


def test_the_guard_is_off_where_entropy_is_only_watched_or_the_margin_is_one_and_else_needs_baselines() -> None:
    collapsed = answers([1] * 10)
    for objective in (
        Objectives([dataclasses.replace(ENTROPY, collapse_margin=1.0)]),
        Objectives([dataclasses.replace(ENTROPY, weight=0.0), up("t", ANSWER)]),
    ):
        assert objective.violated(collapsed) == [] and not objective.compares
    with pytest.raises(
        EvaluationError, match=r"baselines' search answers, but none was scored before.*collapse_margin: 1"
    ):
        fitness(Objectives([ENTROPY]), collapsed)
