import numpy as np
import pytest

from evomerge.fitness.choose import information_order, stratified_order, uniform_order


@pytest.mark.parametrize("n_items", [1, 2, 7, 100, 553])
def test_every_order_is_a_permutation_and_the_same_for_the_same_seed(n_items: int) -> None:
    rng = np.random.default_rng(0)
    strata, level = rng.integers(0, 3, n_items), rng.random(n_items)

    def by_information(seed):  # nothing is drawn where no two items are equally informative
        return information_order(strata, level, seed)

    for make in (
        lambda seed: uniform_order(n_items, seed),
        lambda seed: stratified_order(strata, level, seed),
        by_information,
    ):
        first, again, other = make((1, 2)), make((1, 2)), make((1, 3))
        assert sorted(first.tolist()) == list(range(n_items))
        assert np.array_equal(first, again)
        assert n_items < 100 or make is by_information or not np.array_equal(first, other)


def test_every_beginning_of_a_stratified_order_is_spread_over_tasks_and_difficulty() -> None:
    rng = np.random.default_rng(1)
    strata = np.repeat([0, 1, 2], [120, 60, 20])
    level = rng.random(200)
    for seed in range(20):
        order = stratified_order(strata, level, (seed,))
        for n in range(1, 201):
            begin = order[:n]
            for stratum, share in ((0, 0.6), (1, 0.3), (2, 0.1)):
                assert abs((strata[begin] == stratum).sum() - share * n) < 3.0
        easy = level[strata == 0] > np.median(level[strata == 0])
        found = [index for index in order[:40] if strata[index] == 0]
        assert abs(easy[found].mean() - 0.5) < 0.2


def test_a_mean_over_stratified_items_is_unbiased_and_less_noisy_than_over_uniform_ones() -> None:
    rng = np.random.default_rng(2)
    level = rng.random(201)
    answers = (rng.random((40, 201)) < level).astype(float)
    strata = np.zeros(201, dtype=int)
    means = np.array([answers[:, stratified_order(strata, level, (seed,))[:23]].mean(1) for seed in range(1000)])
    plain = np.array([answers[:, uniform_order(201, (seed,))[:23]].mean(1) for seed in range(1000)])
    assert np.abs(means.mean(0) - answers.mean(1)).max() < 5 * means.std(0).max() / 1000**0.5
    assert means.std(0).mean() < 0.85 * plain.std(0).mean()


def test_informative_items_are_those_whose_answer_is_least_certain() -> None:
    expected = np.array([0.99, 0.5, 0.1, 0.52, 0.9, 0.05])
    order = information_order(np.zeros(6, dtype=int), expected, (0,))
    assert order.tolist() == [1, 3, 2, 4, 5, 0]
    order = information_order(np.array([0, 0, 0, 1, 1, 1]), expected, (0,))
    assert set(order[:2].tolist()) == {1, 3}
    assert set(order[2:4].tolist()) == {2, 4}
