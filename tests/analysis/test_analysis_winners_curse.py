"""The winner of k finalists, adjusted for its luck: simulations whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.analysis.winners_curse import adjusted_for_selection, adjusted_worst
from evomerge.evaluation.intervals import mean_score, weighted_sum, wilson
from evomerge.evaluation.worst import Ratio, worst


def finalists(generator: np.random.Generator, abilities: np.ndarray, n: int) -> np.ndarray:
    """0/1 answers of models that share the items' difficulties, so that their scores are correlated."""
    difficulty = generator.normal(0.0, 1.5, n)
    own = generator.normal(0.0, 0.5, (len(abilities), n))
    return (abilities[:, None] + own > difficulty[None, :]).astype(float)


@pytest.mark.parametrize("spread", [0.0, 0.15])
def test_its_bias_is_far_below_that_of_the_winners_mean(spread: float) -> None:
    generator = np.random.default_rng(11)
    k, n, trials = 8, 100, 400
    # What a model of each ability scores on all possible items: difficulty and own noise have variance 1.5^2 + 0.5^2.
    naive, adjusted, held = [], [], 0
    for trial in range(trials):
        abilities = generator.normal(0.0, spread, k)
        answers = finalists(generator, abilities, n)
        winner = int(np.argmax(answers.mean(axis=1)))
        truth = float(_normal_cdf(abilities[winner] / np.hypot(1.5, 0.5)))
        score = adjusted_for_selection({"t": answers}, {"t": 1.0}, draws=300, seed=trial)
        naive.append(answers[winner].mean() - truth)
        adjusted.append(score.mean - truth)
        held += score.low <= truth <= score.high
    assert np.mean(naive) > 0.02  # two points of luck
    assert abs(np.mean(adjusted)) < 0.5 * np.mean(naive)
    assert held / trials >= 0.93  # careful: the interval is wider than it must be


def _normal_cdf(x: float) -> float:
    from statistics import NormalDist

    return NormalDist().cdf(x)


def test_equal_rows_have_their_own_mean() -> None:
    row = np.random.default_rng(0).integers(0, 2, 80).astype(float)
    score = adjusted_for_selection({"t": np.tile(row, (5, 1))}, {"t": 1.0})
    assert score.mean == pytest.approx(row.mean(), abs=0.005)
    assert score.low < row.mean() < score.high
    assert score.n == 80


def test_a_clear_winner_keeps_its_score() -> None:
    generator = np.random.default_rng(2)
    answers = (generator.random((4, 200)) < np.array([[0.8], [0.3], [0.2], [0.1]])).astype(float)
    score = adjusted_for_selection({"t": answers}, {"t": 1.0})
    assert score.mean == pytest.approx(answers[0].mean(), abs=0.005)


def test_one_item_that_only_one_has_right_is_no_evidence() -> None:
    # The lucky model is chosen where the item was drawn, and then scored without it.
    answers = np.zeros((3, 50))
    answers[1, 7] = 1.0
    score = adjusted_for_selection({"t": answers}, {"t": 1.0})
    assert score.mean == 0.0


def test_items_that_are_all_right_or_wrong_leave_the_doubt_that_so_few_items_leave() -> None:
    # Resampling twelve zeros gives zeros; a share of 0 in 12 items is still anything up to 24 %.
    values = {"right": np.ones((3, 12)), "wrong": np.zeros((3, 12))}
    score = adjusted_for_selection(values, {"right": 0.5, "wrong": 0.5})
    expected = weighted_sum([mean_score([1.0] * 12), mean_score([0.0] * 12)], [0.5, 0.5])
    assert (score.mean, score.low, score.high, score.n) == (0.5, expected.low, expected.high, 24)
    alone = adjusted_for_selection({"wrong": np.zeros((3, 12))}, {"wrong": 1.0})
    assert (alone.low, alone.high) == wilson(0, 12)


def test_tasks_weigh_as_in_the_objective() -> None:
    generator = np.random.default_rng(4)
    right = (generator.random((2, 120)) < np.array([[0.9], [0.5]])).astype(float)
    loss = generator.normal([[1.0], [3.0]], 0.1, (2, 60))
    weights = {"right": 0.5, "loss": -0.5, "unweighted": 0.0}
    values = {"right": right, "loss": loss, "unweighted": np.full((2, 3), np.nan)}
    both = adjusted_for_selection(values, weights)
    assert both.mean == pytest.approx(0.5 * right[0].mean() - 0.5 * loss[0].mean(), abs=0.01)
    assert both.n == 180


def test_the_rule_that_is_repeated_is_the_one_that_chose() -> None:
    """A rule that prefers the second model unless it is 20 points behind: its score is what is estimated."""
    generator = np.random.default_rng(4)
    answers = (generator.random((2, 200)) < np.array([[0.8], [0.7]])).astype(float)

    def rule(counts: dict) -> np.ndarray:
        means = counts["t"] @ answers.T / 200
        return (means[:, 0] - means[:, 1] <= 0.2).astype(int)

    score = adjusted_for_selection({"t": answers}, {"t": 1.0}, rule=rule)
    assert score.mean == pytest.approx(answers[1].mean(), abs=0.01)
    assert score.mean <= answers[1].mean()


def test_it_is_never_above_the_score_that_it_corrects() -> None:
    generator = np.random.default_rng(8)
    for trial in range(60):
        k, n = int(generator.integers(2, 6)), int(generator.integers(2, 40))
        answers = (generator.random((k, n)) < generator.random((k, 1))).astype(float)
        score = adjusted_for_selection({"t": answers}, {"t": 1.0}, draws=100, seed=trial)
        raw = mean_score(answers[int(np.argmax(answers.mean(axis=1)))].tolist())
        assert score.mean <= raw.mean and score.high <= max(raw.high, score.mean)
        assert score.low <= score.mean <= score.high


def test_the_same_seed_gives_the_same_numbers_and_few_items_do_no_harm() -> None:
    answers = np.random.default_rng(0).integers(0, 2, (3, 2)).astype(float)
    first, again = (adjusted_for_selection({"t": answers}, {"t": 1.0}, seed=1) for _ in range(2))
    assert first == again
    alone = adjusted_for_selection({"t": answers[:, :1]}, {"t": 1.0})
    assert alone.mean == answers[0, 0]


@pytest.mark.parametrize("rows", [np.zeros((0, 5)), np.zeros((3, 0)), np.array([[1.0, np.inf]])])
def test_what_cannot_be_compared_is_refused(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"same models|infinite"):
        adjusted_for_selection({"t": rows}, {"t": 1.0})


def test_the_luck_of_the_worst_task_is_taken_out_too() -> None:
    """Eight equal models of three tasks, of which one is the worst: all that the best is ahead is luck."""
    generator = np.random.default_rng(5)
    k, n, trials, parent = 8, 80, 120, 0.9
    truth = 0.55 / parent
    naive, adjusted, held = [], [], 0
    for trial in range(trials):
        ratios: list[list[Ratio]] = [[] for _ in range(k)]
        for task, rate in {"a": 0.55, "b": 0.85, "c": 0.8}.items():
            level = generator.random(n)
            best = (generator.random(n) < parent).astype(float)
            for model in range(k):
                own = np.where(generator.random(n) < 0.5, level, generator.random(n))
                ratios[model].append(Ratio(task, (own < rate).astype(float), best))

        def rule(counts, ratios=ratios):
            means = [
                [counts[one.task] @ (one.mean + one.forms) / counts[one.task].sum(axis=1) for one in row]
                for row in ratios
            ]
            return np.argmax(np.min(np.array(means), axis=1), axis=0)

        winner = int(np.argmax([worst(row) for row in ratios]))
        score = adjusted_worst(ratios, rule, winner, sizes=dict.fromkeys("abc", n), draws=200, seed=trial)
        naive.append(worst(ratios[winner]) - truth)
        adjusted.append(score.mean - truth)
        held += score.low <= truth <= score.high
        assert score.mean <= worst(ratios[winner])
    assert np.mean(naive) > 0.06 and abs(np.mean(adjusted)) < 0.4 * np.mean(naive)
    assert held / trials >= 0.93
