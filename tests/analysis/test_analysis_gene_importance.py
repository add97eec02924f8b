"""What genes explain, against functions of which it is known."""

import math

import numpy as np
import pytest

from evomerge.analysis.gene_importance import FEWEST, gene_importance


def uniform(n: int, n_genes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, n_genes))


def test_a_word_that_decides_has_the_divergence_that_follows_from_its_frequency() -> None:
    # Every second candidate has the good word, and all of the best: the density of the best is (0, 1), of all (½, ½).
    values = np.tile([0.25, 0.75], 200)
    other = np.repeat([0.25, 0.75], 200)
    decides, nothing = gene_importance(np.stack([values, other], axis=1), (values > 0.5) * 1.0, (-2, -2))
    assert decides.divergence == pytest.approx(1.0)
    assert nothing.divergence == pytest.approx(0.0, abs=1e-12)
    assert decides.share == 1.0 and decides.stands_out and decides.low > 0.95
    assert nothing.share == 0.0 and not nothing.stands_out


def test_of_three_equally_frequent_words_the_best_one_diverges_by_two() -> None:
    values = np.tile([1 / 6, 3 / 6, 5 / 6], 100)[:, None]
    (one,) = gene_importance(values, (values[:, 0] > 0.6) * 1.0, (-3,))
    assert one.divergence == pytest.approx((1 / (1 / 3) - 1) ** 2 / 3 + 2 / 3)  # = 2


def test_shares_of_a_sum_are_near_its_shares_of_variance() -> None:
    points = uniform(3000, 6)
    fitness = 3.0 * points[:, 0] + 1.5 * points[:, 1] + 0.75 * points[:, 2]
    found = gene_importance(points, fitness, (0,) * 6)
    variances = np.array([9.0, 2.25, 0.5625]) / (9.0 + 2.25 + 0.5625)
    assert [one.share for one in found[:3]] == pytest.approx(variances, abs=0.06)
    assert all(one.stands_out for one in found[:3]) and not any(one.stands_out for one in found[3:])
    assert all(one.low <= one.share <= one.high for one in found[:3])
    assert sum(one.share for one in found) == pytest.approx(1.0)


def test_a_gene_whose_middle_is_best_counts_as_one_whose_end_is() -> None:
    points = uniform(2000, 3)
    found = gene_importance(points, -np.abs(points[:, 0] - 0.5) - 0.2 * points[:, 1], (0, 0, 0))
    assert found[0].share > 0.7 > found[1].share > found[2].share


def test_mixed_kinds_and_log_scales_are_judged_by_their_places() -> None:
    draw = np.random.default_rng(3)
    integer = (draw.integers(0, 4, 1000) + 0.5) / 4
    word = (draw.integers(0, 3, 1000) + 0.5) / 3
    points = np.stack([integer, word, draw.random(1000)], axis=1)
    found = gene_importance(points, integer + 0.05 * (word == 0.5), (4, -3, 0))
    assert found[0].share > found[1].share > found[2].share and found[0].stands_out
    assert all(one.n == 1000 for one in found)


def test_noise_seldom_stands_out() -> None:
    alarms = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        found = gene_importance(draw.random((60, 8)), draw.integers(0, 20, 60) / 20, (0,) * 8, rounds=100, seed=seed)
        alarms += any(one.stands_out for one in found)
    assert alarms <= 4  # one in twenty is expected; more than four has a probability of 0.003


def test_a_sleeping_gene_is_judged_where_it_is_awake_alone() -> None:
    points = uniform(800, 2)
    method = (points[:, 0] > 0.5) * 0.5 + 0.25
    setting = np.where(method == 0.75, points[:, 1], np.nan)
    # The setting decides among those that have the method, and the method is as good as any.
    fitness = np.where(method == 0.75, points[:, 1], np.random.default_rng(1).random(800))
    found = gene_importance(np.stack([method, setting], axis=1), fitness, (-2, 0))
    assert found[1].n == int((method == 0.75).sum())
    assert found[1].share > 0.9 and found[1].stands_out and not found[0].stands_out


def test_failed_candidates_count_as_the_worst() -> None:
    points = uniform(300, 2)
    fitness = np.where(points[:, 0] < 0.8, np.nan, 0.5)
    found = gene_importance(points, fitness, (0, 0))
    assert found[0].share > 0.95 and found[0].stands_out


def test_too_few_candidates_and_one_value_alone_say_nothing() -> None:
    points = uniform(FEWEST - 1, 2)
    assert all(math.isnan(one.share) and not one.stands_out for one in gene_importance(points, points[:, 0], (0, 0)))
    points = np.stack([np.full(50, 0.5), uniform(50, 1)[:, 0]], axis=1)
    still, moves = gene_importance(points, points[:, 1], (0, 0))
    assert math.isnan(still.share) and moves.share == 1.0
    assert gene_importance(np.empty((0, 1)), np.empty(0), (0,))[0].n == 0


def test_equal_fitness_explains_nothing() -> None:
    found = gene_importance(uniform(100, 3), np.ones(100), (0, 0, 0))
    assert not any(one.stands_out for one in found)


def test_one_seed_gives_one_answer() -> None:
    points = uniform(100, 3)
    first = gene_importance(points, points[:, 0], (0, 0, 0))
    assert first == gene_importance(points, points[:, 0], (0, 0, 0))
    assert first != gene_importance(points, points[:, 0], (0, 0, 0), seed=1)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="a fitness for each of 4 candidates and a kind for each of 2 genes"):
        gene_importance(uniform(4, 2), np.zeros(3), (0, 0))
