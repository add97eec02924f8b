"""The mixed-integer evolution strategy: how each kind moves, and that it pays."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from optimizer_cases import assert_equal_points, drive, sphere, told

from evomerge.optimizers import make_optimizer
from evomerge.optimizers.mixed_es import LIFESPAN, MixedES
from evomerge.record import Result

Fitness = Callable[[NDArray[np.float64]], float]


def index(x: NDArray[np.float64], kinds: Sequence[int]) -> list[int]:
    """The value of each integer or choice."""
    return [int(number * abs(kind)) for number, kind in zip(x, kinds, strict=True) if kind]


def mixed_problem(
    n_floats: int, n_integers: int, n_choices: int, seed: int, steps: int = 0
) -> tuple[list[int], Fitness]:
    """A target in each dimension; choices are right or wrong. With `steps`, the fitness is rounded to such shares."""
    rng = np.random.default_rng(seed)
    kinds = [0] * n_floats + [9] * n_integers + [-4] * n_choices
    floats, integers = rng.uniform(0.1, 0.9, n_floats), rng.integers(0, 9, n_integers)
    choices = rng.integers(0, 4, n_choices)

    def fitness(x: NDArray[np.float64]) -> float:
        values = np.array(index(x, kinds))
        loss = float(np.sum((x[:n_floats] - floats) ** 2))
        loss += float(np.sum(((values[:n_integers] - integers) / 9) ** 2))
        loss += 0.25 * float(np.sum(values[n_integers:] != choices))
        return -round(loss * steps) / steps if steps else -loss

    return kinds, fitness


def switched_problem(n_blocks: int, seed: int) -> tuple[list[int], Fitness]:
    """As with segments: a choice switches which of three integers counts, and only one source is worth its scale."""
    rng = np.random.default_rng(seed)
    kinds = [-3, 7, 7, 7, 0] * n_blocks
    sources, values = rng.integers(0, 3, n_blocks), rng.integers(0, 7, (n_blocks, 3))
    gains = rng.permuted(np.tile([0.2, 0.5, 1.0], (n_blocks, 1)), axis=1)

    def fitness(x: NDArray[np.float64]) -> float:
        total = 0.0
        for block in range(n_blocks):
            source, *numbers = index(x[5 * block : 5 * block + 4], kinds[:4])
            near = 1.0 - abs(numbers[source] - values[block, source]) / 6.0
            scale = 1.0 - abs(x[5 * block + 4] - 0.7) if source == sources[block] else 0.8
            total += float(gains[block, source]) * near * scale
        return total

    return kinds, fitness


def best_of(name: str, problem: tuple[list[int], Fitness], n_asks: int, seed: int, outstanding: int = 1) -> float:
    kinds, fitness = problem
    optimizer = make_optimizer(name, n_dims=len(kinds), start=np.full(len(kinds), 0.5), seed=seed, kinds=kinds)
    waiting, best = [], -np.inf
    for _ in range(n_asks):
        waiting.append(optimizer.ask())
        if len(waiting) >= outstanding:
            proposal = waiting.pop(0)
            best = max(best, fitness(proposal.x))
            optimizer.tell(proposal.number, told(fitness(proposal.x)))
    return best


@pytest.mark.parametrize(
    "make_problem",
    [
        lambda seed: mixed_problem(5, 5, 5, seed),
        lambda seed: mixed_problem(4, 4, 4, seed, steps=10),
        lambda seed: mixed_problem(0, 8, 8, seed),
        lambda seed: mixed_problem(10, 0, 0, seed),
        lambda seed: switched_problem(4, seed),
    ],
    ids=["mixed", "mixed-rounded", "discrete", "floats", "switched"],
)
@pytest.mark.parametrize("outstanding", [1, 8])
def test_it_beats_random_search_at_equal_budget(make_problem: Callable[[int], object], outstanding: int) -> None:
    found = {
        name: [best_of(name, make_problem(seed), 200, seed, outstanding) for seed in range(9)]  # type: ignore[arg-type]
        for name in ("mixed", "random")
    }
    assert statistics.median(found["mixed"]) > statistics.median(found["random"])
    better = sum(ours > theirs for ours, theirs in zip(found["mixed"], found["random"], strict=True))
    assert better >= 7


def test_the_optimum_of_a_small_mixed_problem_is_found() -> None:
    losses = [-best_of("mixed", mixed_problem(2, 2, 2, seed), 500, seed) for seed in range(5)]
    assert statistics.median(losses) < 1e-3


def test_floats_alone_are_climbed_far_below_the_first_step() -> None:
    start = np.full(6, 0.8)
    optimizer = MixedES(6, start, 0)
    points = drive(optimizer, 800)
    assert max(sphere(x) for x in points) > 1e-4 * sphere(start)


def test_the_first_proposal_is_the_start_with_whole_values_at_the_centres_of_their_bins() -> None:
    optimizer = MixedES(4, [0.3, 0.3, 0.3, 1.0], 0, kinds=(0, 5, -2, 3))
    assert optimizer.ask().x.tolist() == pytest.approx([0.3, 0.3, 0.25, 5 / 6])


@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_integers_and_choices_stay_on_their_grid_and_all_values_are_reached(corner: float) -> None:
    kinds = (1, 2, 3, 40, -1, -2, -7)
    optimizer = MixedES(7, [corner] * 7, 0, kinds=kinds)
    seen: list[set[int]] = [set() for _ in kinds]
    for _ in range(800):
        proposal = optimizer.ask()
        values = index(proposal.x, kinds)
        assert np.allclose(proposal.x, [(v + 0.5) / abs(kind) for v, kind in zip(values, kinds, strict=True)])
        for known, value in zip(seen, values, strict=True):
            known.add(value)
        optimizer.tell(proposal.number, told(None))
    assert [len(known) for known in seen] == [abs(kind) for kind in kinds]


def test_integers_move_by_the_difference_of_geometric_numbers() -> None:
    # Rudolph (PPSN 1994): symmetric, and P(k + 1) / P(k) is the same for all k >= 0.
    n, kinds = 1, (4001,)
    steps = []
    for seed in range(900):
        optimizer = MixedES(n, [0.5], seed, kinds=kinds, sigma=0.001)
        optimizer.ask()
        steps.append(index(optimizer.ask().x, kinds)[0] - 2000)
    moved = np.array(steps)
    assert abs(float(moved.mean())) < 0.8
    assert 2.0 < float(np.abs(moved).mean()) < 12.0  # 4, times exp(N(0, 1)) of mean 1.65
    assert len(set(steps)) > 15


def test_what_a_choice_becomes_does_not_depend_on_its_order() -> None:
    kinds = (-6,)
    counts = np.zeros(6)
    for seed in range(700):
        optimizer = MixedES(1, [0.0], seed, kinds=kinds)
        optimizer.ask()
        counts[index(optimizer.ask().x, kinds)[0]] += 1
    # Points that were asked before are mutated again, so that the start itself hardly ever comes.
    assert counts[0] < 5
    assert counts[1:].min() > 0.75 * counts[1:].mean()


def test_points_of_discrete_genes_are_not_asked_twice_while_others_are_left() -> None:
    kinds = (5, -4, 3)
    optimizer = MixedES(3, [0.5] * 3, 1, kinds=kinds)
    points = []
    for _ in range(30):
        proposal = optimizer.ask()
        points.append(proposal.x.tobytes())
        optimizer.tell(proposal.number, told(sphere(proposal.x)))
    assert len(set(points)) == 30
    for _ in range(60):  # only 60 points are there; it goes on all the same
        optimizer.tell(optimizer.ask().number, told(0.0))


def test_a_resumed_search_remembers_what_it_asked() -> None:
    kinds = (5, -4, 3)
    optimizer = MixedES(3, [0.5] * 3, 1, kinds=kinds)
    before = {x.tobytes() for x in drive(optimizer, 20)}
    loaded = MixedES(3, [0.5] * 3, 1, kinds=kinds)
    loaded.load_state(optimizer.dump_state())
    assert not before & {x.tobytes() for x in drive(loaded, 8)}


def test_failed_candidates_never_survive() -> None:
    optimizer = MixedES(3, [0.5] * 3, 0, population=4)
    for i in range(40):
        proposal = optimizer.ask()
        optimizer.tell(proposal.number, told((None, float("nan"), float("-inf"), -1e9)[i % 4]))
        assert all(one.number % 4 == 3 for one in optimizer._members)
    assert len(optimizer._members) == 4


def test_ties_are_won_by_the_newer_and_the_best_outlives_its_span() -> None:
    optimizer = MixedES(3, [0.5] * 3, 0, population=2)
    for _ in range(5):
        optimizer.tell(optimizer.ask().number, told(0.5))
    assert [one.number for one in optimizer._members] == [4, 3]
    optimizer.tell(optimizer.ask().number, told(0.9))
    optimizer.tell(optimizer.ask().number, told(0.8))
    for _ in range(2 * LIFESPAN - 1):
        optimizer.tell(optimizer.ask().number, told(0.1))
    assert [one.fitness for one in optimizer._members] == [0.9, 0.8]
    optimizer.tell(optimizer.ask().number, told(0.1))
    assert [one.fitness for one in optimizer._members] == [0.9, 0.1]


def test_step_sizes_shrink_on_the_way_to_an_optimum() -> None:
    optimizer = MixedES(5, [0.8] * 5, 0, kinds=(0, 0, 0, 100, 100))
    drive(optimizer, 800)
    sigma, step, _ = np.mean([one.steps for one in optimizer._members], axis=0)
    assert sigma < 0.05
    assert step < 0.05


def test_other_kinds_are_another_optimizer() -> None:
    state = MixedES(2, [0.5] * 2, 0, kinds=(0, 3)).dump_state()
    with pytest.raises(ValueError, match="kinds: the state has"):
        MixedES(2, [0.5] * 2, 0, kinds=(0, -3)).load_state(state)


def test_a_state_whose_parts_do_not_belong_together_is_refused() -> None:
    from evomerge.optimizers.state import flatten, pack, restore, unpack

    optimizer = MixedES(2, [0.5] * 2, 0)
    drive(optimizer, 9, 3)
    state = optimizer.dump_state()
    data = restore(unpack(state, optimizer._header))
    data["asked"].popitem()
    with pytest.raises(ValueError, match="damaged"):
        optimizer.load_state(pack(optimizer._header, flatten(data)))
    assert optimizer.dump_state() == state


def test_kinds_given_as_floats_are_those_without_kinds() -> None:
    one, other = MixedES(4, [0.4] * 4, 3), MixedES(4, [0.4] * 4, 3, kinds=(0, 0, 0, 0))
    assert_equal_points(drive(one, 40), drive(other, 40))


def test_it_says_the_strategy_parameters_of_the_kinds_that_there_are() -> None:
    floats = MixedES(2, [0.5, 0.5], 1, sigma=0.1)
    assert floats.diagnostics() == {"generation": 0, "population": 4, "step_size": 0.1}
    mixed = MixedES(3, [0.5] * 3, 1, kinds=[0, 5, -3], sigma=0.1)
    for i in range(9):
        point = mixed.ask()
        mixed.tell(point.number, Result((float(i),)))
    found = mixed.diagnostics()
    assert (found["generation"], set(found) - {"generation", "population"}) == (
        9 // 4,
        {"step_size", "integer_step", "choice_rate"},
    )
    assert found["step_size"] == pytest.approx(np.mean([one.steps[0] for one in mixed._members]), rel=1e-3)
