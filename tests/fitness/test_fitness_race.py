import numpy as np
import pytest
from scipy.stats import norm

from evomerge.fitness.race import Contender, Race, next_blocks, reach


def test_the_chance_to_be_selected_is_that_of_lying_above_the_threshold() -> None:
    contenders = [Contender(0.9, 0.05, 10), Contender(0.6, 0.1, 10), Contender(0.5, 0.2, 10), Contender(0.1, 0.05, 10)]
    threshold = 0.55  # halfway between the second and the third
    expected = [norm.cdf((one.estimate - threshold) / one.error) for one in contenders]
    assert np.allclose(reach(Race(keep=0.5), contenders), expected)


def test_a_candidate_without_error_is_in_or_out() -> None:
    assert reach(Race(), [Contender(0.9, 0.0, 10), Contender(0.1, 0.0, 10)]) == [1.0, 0.0]
    assert reach(Race(), [Contender(0.5, 0.0, 10), Contender(0.5, 0.0, 10)]) == [0.5, 0.5]


def test_only_the_doubtful_get_another_block_the_most_doubtful_first() -> None:
    contenders = [Contender(0.9, 0.05, 10), Contender(0.6, 0.1, 10), Contender(0.52, 0.1, 10), Contender(0.1, 0.05, 10)]
    assert next_blocks(Race(block=10), contenders, left=100, pool=200, turn=0) == {1: 10, 2: 10}
    given = next_blocks(Race(block=10), contenders, left=15, pool=200, turn=0)
    assert sum(given.values()) == 15 and set(given) == {1, 2}
    assert next_blocks(Race(block=10), contenders, left=0, pool=200, turn=0) == {}


def test_nobody_gets_more_than_there_is_or_than_the_most() -> None:
    doubtful = [Contender(0.51, 0.1, 195), Contender(0.5, 0.1, 60)]
    assert next_blocks(Race(block=10), doubtful, left=100, pool=200, turn=3) == {0: 5, 1: 10}
    assert next_blocks(Race(block=10, most=64), doubtful, left=100, pool=200, turn=3) == {1: 4}


def test_one_alone_gets_what_the_generation_has() -> None:
    assert next_blocks(Race(block=10), [Contender(0.5, 0.1, 10)], left=20, pool=200, turn=0) == {0: 20}
    assert next_blocks(Race(block=10), [Contender(0.5, 0.1, 30)], left=20, pool=200, turn=1) == {}
    assert next_blocks(Race(block=10), [], left=20, pool=200, turn=0) == {}


@pytest.mark.parametrize("n", [2, 3, 8, 13])
def test_halving_ends_with_one_and_doubles_the_items(n: int) -> None:
    race = Race("halving", block=4)
    answered, left = [4] * n, 10_000
    worth = np.random.default_rng(n).random(n)
    alive, turns = n, 0
    while given := next_blocks(
        race, [Contender(w, 0.1, a) for w, a in zip(worth, answered, strict=True)], left, 10_000, turns
    ):
        assert all(items == 4 * 2**turns for items in given.values())
        assert len(given) == -(-n // 2 ** (turns + 1)) <= alive
        for index, items in given.items():
            answered[index] += items
        alive, turns = len(given), turns + 1
    assert alive == 1
    assert int(np.argmax(answered)) == int(np.argmax(worth))
