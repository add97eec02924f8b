"""NSGA-II against formulas written anew, a published library, and the paper's promises."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import moocore
import numpy as np
import pytest

from evomerge.optimizers import make_optimizer, nsga2
from evomerge.optimizers.nsga2 import NSGA2
from evomerge.optimizers.pareto import best_front, crowding, ranks
from evomerge.optimizers.random_search import RandomSearch
from evomerge.record import Result


def two_goals(x: np.ndarray) -> Result:
    """ZDT1 with both objectives turned round: the best front is y = sqrt(f) - 1 at x[1:] = 0, f = x[0]."""
    g = 1.0 + 9.0 * float(np.mean(x[1:]))
    return Result((-float(x[0]), -g * (1.0 - math.sqrt(float(x[0]) / g))))


def search(optimizer, n: int, judge=two_goals) -> list[Result]:
    results = []
    for _ in range(n):
        point = optimizer.ask()
        results.append(judge(point.x))
        optimizer.tell(point.number, results[-1])
    return results


def volume(results: list[Result]) -> float:
    values = np.array([one.objectives for one in results if one.violation == 0.0])
    return float(moocore.hypervolume(values, ref=[-1.1, -6.0], maximise=True))


def test_it_covers_more_than_random_search_in_every_seed() -> None:
    for seed in range(5):
        found = volume(search(make_optimizer("nsga2", n_dims=6, start=[0.5] * 6, seed=seed, population=12), 240))
        assert found > volume(search(RandomSearch(6, [0.5] * 6, seed), 240)) + 0.3


def test_the_parents_are_the_best_of_all_that_was_told_spread_out() -> None:
    optimizer = make_optimizer("nsga2", n_dims=4, start=[0.5] * 4, seed=3, population=8)
    everyone = search(optimizer, 64)
    kept = [one.result for one in optimizer._parents]
    assert len(kept) == 8
    others = [one for one in everyone if one not in kept]
    assert not any(other.dominates(one) for one, other in itertools.product(kept, others))
    ends = [min(one.objectives[k] for one in kept) for k in (0, 1)]
    assert max(one.objectives[0] for one in kept) - ends[0] > 0.3


def test_limits_come_first_then_the_objectives() -> None:
    def judge(x: np.ndarray) -> Result:
        result = two_goals(x)
        return Result(result.objectives, max(0.0, 0.3 - float(x[0])))

    optimizer = make_optimizer("nsga2", n_dims=3, start=[0.0] * 3, seed=1, population=10)
    search(optimizer, 150, judge)
    assert all(one.result.violation == 0.0 and one.x[0] >= 0.3 for one in optimizer._parents)


def test_what_failed_is_never_a_parent_and_a_generation_of_failures_is_drawn_anew() -> None:
    optimizer = make_optimizer("nsga2", n_dims=2, start=[0.5] * 2, seed=1, population=4)
    for _ in range(8):
        optimizer.tell(optimizer.ask().number, None)
    assert optimizer._parents == []
    point = optimizer.ask()
    optimizer.tell(point.number, two_goals(point.x))
    for _ in range(3):
        optimizer.tell(optimizer.ask().number, Result((float("nan"), 0.0)))
    assert [one.number for one in optimizer._parents] == [point.number]


def test_the_order_of_tells_within_a_generation_changes_nothing() -> None:
    one, other = (make_optimizer("nsga2", n_dims=3, start=[0.5] * 3, seed=2, population=6) for _ in range(2))
    for _ in range(5):
        points = [one.ask() for _ in range(6)]
        for point in points:
            assert np.array_equal(other.ask().x, point.x)
            one.tell(point.number, two_goals(point.x))
        for point in reversed(points):
            other.tell(point.number, two_goals(point.x))
    assert one.dump_state() == other.dump_state()


def test_sure_asks_are_those_until_the_generation_may_close() -> None:
    optimizer = make_optimizer("nsga2", n_dims=3, start=[0.5] * 3, seed=2, population=6)
    for n in range(6):
        assert optimizer.sure_asks == 6 - n
        optimizer.ask()
    assert optimizer.sure_asks == 0


def sbx_children(a: float, b: float, u: float, eta: float) -> tuple[float, float]:
    """Both children of bounded SBX in [0, 1], as Deb's own description has it, with plain numbers."""
    low, high = min(a, b), max(a, b)

    def beta_q(room: float) -> float:
        alpha = 2.0 - (1.0 + 2.0 * room / (high - low)) ** -(eta + 1.0)
        return (u * alpha) ** (1 / (eta + 1)) if u <= 1 / alpha else (1 / (2 - u * alpha)) ** (1 / (eta + 1))

    return 0.5 * (low + high - beta_q(low) * (high - low)), 0.5 * (low + high + beta_q(1.0 - high) * (high - low))


@pytest.mark.parametrize("u", [0.0, 1e-9, 0.2, 0.5, 0.500001, 0.77, 1.0 - 1e-12])
@pytest.mark.parametrize(("a", "b"), [(0.2, 0.7), (0.0, 1.0), (0.95, 0.9), (0.0, 1e-6), (0.3, 1.0)])
def test_the_crossover_is_the_formula_and_stays_in_the_cube(a: float, b: float, u: float) -> None:
    low, high = min(a, b), max(a, b)
    width = np.array([high - low])
    eta = nsga2.ETA_CROSSOVER
    below = 0.5 * (low + high - nsga2._spread(1.0 + 2.0 * low / width, np.array([u])) * width)
    above = 0.5 * (low + high + nsga2._spread(1.0 + 2.0 * (1.0 - high) / width, np.array([u])) * width)
    assert (below[0], above[0]) == pytest.approx(sbx_children(a, b, u, eta), abs=1e-12)
    assert -1e-12 <= below[0] <= above[0] <= 1.0 + 1e-12


@pytest.mark.parametrize("x", [0.0, 0.01, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("u", [0.0, 0.1, 0.4999, 0.5, 0.9, 1.0])
def test_the_mutation_is_the_formula_and_stays_in_the_cube(x: float, u: float) -> None:
    eta = nsga2.ETA_MUTATION
    if u < 0.5:
        expected = (2 * u + (1 - 2 * u) * (1 - x) ** (eta + 1)) ** (1 / (eta + 1)) - 1
    else:
        expected = 1 - (2 * (1 - u) + 2 * (u - 0.5) * (1 - (1 - x)) ** (eta + 1)) ** (1 / (eta + 1))
    step = nsga2._step(np.array([x]), np.array([u]))[0]
    assert step == pytest.approx(expected, abs=1e-12)
    assert -1e-12 <= x + step <= 1.0 + 1e-12


@pytest.mark.parametrize("population", [3, 0, 4.0, True, None, "many"])
def test_a_wrong_population_is_refused(population: object) -> None:
    assert "whole number from 4" in nsga2.NSGA2.problems({"population": population}, 3)[0]


# --- what it rests on ------------------------------------------------------------------------------------------------


def peeled(results: list[Result | None]) -> list[int]:
    """Fronts by their definition, one after the other."""
    left = {place for place, one in enumerate(results) if one is not None and all(map(math.isfinite, one.objectives))}
    found = dict.fromkeys(range(len(results)), -1)
    front = 0
    while left:
        best = {i for i in left if not any(results[j].dominates(results[i]) for j in left)}  # type: ignore[union-attr, arg-type]
        found |= dict.fromkeys(best, front)
        left -= best
        front += 1
    return [front if level < 0 else level for level in found.values()]


def test_ranks_are_the_fronts_peeled_off_with_ties_limits_and_failures() -> None:
    draw = np.random.default_rng(5)
    for _ in range(60):
        n, n_objectives = int(draw.integers(1, 25)), int(draw.integers(1, 4))
        results: list[Result | None] = [
            Result(tuple(draw.integers(0, 4, n_objectives) / 2.0), float(draw.integers(0, 3) * (draw.random() < 0.3)))
            for _ in range(n)
        ]
        for place in draw.integers(0, n, 2):
            results[place] = draw.choice([None, Result((math.inf,) * n_objectives), Result((math.nan,) * n_objectives)])
        assert ranks(results).tolist() == peeled(results)
    assert ranks([]).tolist() == []


def test_ranks_without_limits_are_those_of_a_published_library() -> None:
    values = np.random.default_rng(2).integers(0, 6, (40, 3)).astype(float)
    found = ranks([Result(tuple(row)) for row in values])
    assert found.tolist() == moocore.pareto_rank(values, maximise=True).tolist()


def test_crowding_is_the_sum_of_the_gaps_between_neighbours() -> None:
    values = np.array([[0.0, 1.0], [0.2, 0.7], [0.5, 0.6], [1.0, 0.0]])
    expected = [math.inf, 0.5 / 1.0 + 0.4 / 1.0, 0.8 / 1.0 + 0.7 / 1.0, math.inf]
    assert crowding(values).tolist() == pytest.approx(expected)
    assert crowding(values[:2]).tolist() == [math.inf, math.inf]
    assert crowding(np.ones((3, 2)))[1] in (0.0, math.inf)  # no width, no gap


def test_a_front_that_does_not_fit_is_thinned_where_it_is_crowded_and_keeps_its_ends() -> None:
    line = [Result((x, 1.0 - x)) for x in (0.0, 0.02, 0.04, 0.5, 0.52, 1.0, 0.5)]
    worse = Result((-1.0, -1.0))
    assert best_front([worse, *line], 4) == [1, 3, 5, 6]
    assert best_front([worse, *line], 8) == [1, 2, 3, 4, 5, 6, 7, 0]
    assert best_front([], 3) == []


def test_the_best_front_of_many_results_needs_no_memory_of_their_square() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    results = [Result(tuple(row)) for row in rng.random((n, 2)).tolist()]
    tracemalloc.start()
    try:
        best = best_front(results, 8)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < n * n / 2  # a byte for each pair would be twice as much
    assert not any(other.dominates(results[place]) for place in best for other in results)


def test_it_says_how_often_it_selected_and_how_far_apart_its_parents_are() -> None:
    optimizer = NSGA2(2, [0.5, 0.5], 1, population=4)
    assert optimizer.diagnostics() == {"generation": 0, "population": 4}
    for _ in range(4):
        point = optimizer.ask()
        optimizer.tell(point.number, Result((float(point.x[0]), float(point.x[1]))))
    spread = np.std([one.x for one in optimizer._parents], axis=0).mean()
    assert optimizer.diagnostics() == {"generation": 1, "population": 4, "spread": pytest.approx(spread, rel=1e-3)}
    assert set(optimizer.ask().parents) <= {0, 1, 2, 3}
