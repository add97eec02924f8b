"""CMA-ES: equal to pycma where pycma can be compared, and what the wrapper adds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cma
import numpy as np
import pytest
from numpy.typing import NDArray
from optimizer_cases import assert_equal_points, drive, sphere, told

from evomerge.optimizers import make_optimizer
from evomerge.optimizers.cma_es import CMA, FLAT_GENERATIONS, MOST_AXES, SEPARABLE_ABOVE
from evomerge.optimizers.ledger import own_generator
from evomerge.record import Result


def ellipsoid(x: NDArray[np.float64]) -> float:
    """A sphere whose axes differ by a factor of 30 and are turned, largest (0) at 0.35."""
    z = x - 0.35
    z = z - 2 * np.mean(z) * np.ones_like(z)
    return -float(np.sum(30 ** (2 * np.linspace(0, 1, len(x))) * z**2))


def score(optimizer: CMA, n: int, fitness=ellipsoid) -> float:
    """Ask and tell so often; return the best fitness seen."""
    best = -np.inf
    for _ in range(n):
        proposal = optimizer.ask()
        best = max(best, fitness(proposal.x))
        optimizer.tell(proposal.number, told(fitness(proposal.x)))
    return best


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("n_dims", [2, 5, 16])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_the_points_are_those_of_pycma(n_dims: int, separable: bool, shuffled: bool, ties: bool) -> None:
    def fitness(x: NDArray[np.float64]) -> float:
        return round(ellipsoid(x) / 40) if ties else ellipsoid(x)  # among ties the order of the points counts

    start = np.linspace(0.05, 0.95, n_dims)  # near enough to the borders for the bounds to matter
    es = cma.CMAEvolutionStrategy(
        start,
        0.25,
        {
            "bounds": [0, 1],
            "randn": own_generator(3, "cma").randn,
            "seed": np.nan,
            "verbose": -9,
            "verb_log": 0,
            "CMA_diagonal": separable,
        },
    )
    optimizer = CMA(n_dims, start, 3, sigma=0.25, separable=separable)
    assert optimizer.population == es.popsize
    order = np.random.default_rng(0)
    for _ in range(9 if ties else 25):  # later all would tie, which is where the wrapper restarts and pycma does not
        expected = es.ask()
        es.tell(expected, [-fitness(x) for x in expected])
        proposals = [optimizer.ask() for _ in range(es.popsize)]
        assert_equal_points([proposal.x for proposal in proposals], expected)
        for i in order.permutation(es.popsize) if shuffled else range(es.popsize):
            optimizer.tell(proposals[i].number, told(fitness(proposals[i].x)))


@pytest.mark.parametrize("n_dims", [1, 2, 10])
@pytest.mark.parametrize("separable", [False, True])
def test_it_climbs(n_dims: int, separable: bool) -> None:
    start = np.full(n_dims, 0.8)
    optimizer = CMA(n_dims, start, 0, separable=separable)
    assert score(optimizer, 80 * optimizer.population, sphere) > 1e-3 * sphere(start)


def test_the_full_matrix_learns_how_genes_interact() -> None:
    start = np.full(6, 0.8)
    full, separable = CMA(6, start, 0, separable=False), CMA(6, start, 0, separable=True)
    assert -score(full, 1500) < -0.1 * score(separable, 1500)


@pytest.mark.parametrize("outstanding", [4, 17, 40])
def test_it_climbs_with_late_answers(outstanding: int) -> None:
    optimizer = CMA(6, np.full(6, 0.8), 0)
    waiting, best = [], -np.inf
    for _ in range(900):
        waiting.append(optimizer.ask())
        if len(waiting) >= outstanding:
            proposal = waiting.pop(0)
            best = max(best, sphere(proposal.x))
            optimizer.tell(proposal.number, told(sphere(proposal.x)))
    assert best > 1e-2 * sphere(np.full(6, 0.8))


def test_more_may_be_asked_than_the_population_and_all_come_from_one_distribution() -> None:
    optimizer = CMA(4, [0.5] * 4, 0, sigma=0.01)
    points = np.array([optimizer.ask().x for _ in range(20 * optimizer.population)])
    assert len(np.unique(points, axis=0)) == len(points)
    assert np.allclose(points.mean(axis=0), 0.5, atol=0.003)
    assert np.allclose(points.std(axis=0), 0.01, rtol=0.2)


def test_every_answer_counts_towards_a_generation_however_late() -> None:
    optimizer = CMA(4, [0.5] * 4, 0)
    proposals = [optimizer.ask() for _ in range(5 * optimizer.population)]
    generations = []
    for proposal in reversed(proposals):
        optimizer.tell(proposal.number, told(sphere(proposal.x)))
        generations.append(optimizer._es.countiter)
    assert generations[-1] == 5
    assert generations == [(i + 1) // optimizer.population for i in range(len(proposals))]


def test_a_late_answer_from_a_wide_distribution_is_shortened() -> None:
    # All but one of a population have seen the search contract; the last, drawn before, lies far out and is told best.
    optimizer = CMA(3, [0.5] * 3, 0, sigma=0.3)
    old = max((optimizer.ask() for _ in range(40)), key=lambda p: float(np.max(np.abs(p.x - 0.5))))
    for _ in range(60 * optimizer.population):
        proposal = optimizer.ask()
        optimizer.tell(proposal.number, told(-float(np.sum((proposal.x - 0.5) ** 2))))
        if optimizer._es.sigma * np.max(optimizer._es.D) < 1e-3 and not optimizer._told:
            break
    before, step = optimizer._es.mean.copy(), float(optimizer._es.sigma * np.max(optimizer._es.D))
    optimizer.tell(old.number, told(1.0))
    for _ in range(optimizer.population - 1):
        proposal = optimizer.ask()
        optimizer.tell(proposal.number, told(-float(np.sum((proposal.x - 0.5) ** 2))))
    assert np.linalg.norm(old.x - 0.5) > 100 * step
    assert 0 < np.linalg.norm(optimizer._es.mean - before) < 4 * step


def test_a_failed_candidate_ranks_below_the_worst() -> None:
    failed, low = CMA(5, [0.5] * 5, 0), CMA(5, [0.5] * 5, 0)
    for i in range(6 * failed.population):
        one, other = failed.ask(), low.ask()
        assert_equal_points([one.x], [other.x])
        fitness = ellipsoid(one.x)
        failed.tell(one.number, told(None if i % 3 == 0 else fitness))
        low.tell(other.number, told(-1e9 - (i % 3) if i % 3 == 0 else fitness))


def test_a_generation_of_failures_leaves_the_distribution_alone() -> None:
    optimizer = CMA(5, [0.5] * 5, 0)
    score(optimizer, 3 * optimizer.population)
    mean, sigma, matrix = optimizer._es.mean.copy(), optimizer._es.sigma, optimizer._es.sm.C.copy()
    seen = set()
    for _ in range(4 * optimizer.population):
        proposal = optimizer.ask()
        seen.add(proposal.x.tobytes())
        optimizer.tell(proposal.number, told(None))
    assert len(seen) == 4 * optimizer.population
    assert np.array_equal(optimizer._es.mean, mean)
    assert optimizer._es.sigma == sigma
    assert np.allclose(optimizer._es.sm.C, matrix, rtol=1e-12)  # pycma symmetrises it at each ask
    assert score(optimizer, 40 * optimizer.population) > -0.05


def test_after_convergence_it_restarts_wider_around_the_best_and_goes_on() -> None:
    optimizer = CMA(2, [0.8, 0.2], 0)
    population = optimizer.population
    for _ in range(4000):
        proposal = optimizer.ask()
        optimizer.tell(proposal.number, told(sphere(proposal.x)))
        if optimizer.restarts:
            break
    assert optimizer.restarts == 1
    assert optimizer.population == 2 * population
    points = np.array([optimizer.ask().x for _ in range(200)])
    assert np.allclose(points.mean(axis=0), 0.35, atol=0.05)  # around the best
    assert np.allclose(points.std(axis=0), 0.2, rtol=0.3)  # with the first step size


def test_a_state_after_a_restart_continues_bit_for_bit() -> None:
    optimizer = CMA(2, [0.8, 0.2], 0)
    while optimizer.restarts < 2:
        score(optimizer, 3, sphere)
    drive(optimizer, 5, 2)
    loaded = CMA(2, [0.8, 0.2], 0)
    loaded.load_state(optimizer.dump_state())
    assert (loaded.restarts, loaded.population) == (2, optimizer.population)
    assert_equal_points(drive(loaded, 80), drive(optimizer, 80))


def test_ties_alone_restart_only_after_some_generations() -> None:
    optimizer = CMA(4, [0.5] * 4, 0)
    score(optimizer, FLAT_GENERATIONS * optimizer.population, lambda x: 0.25)
    assert optimizer.restarts == 0
    score(optimizer, 3 * optimizer.population, lambda x: 0.25)
    assert optimizer.restarts == 1


def test_scores_that_are_shares_of_few_items_do_not_keep_it_from_climbing() -> None:
    optimizer = CMA(6, np.full(6, 0.8), 0)

    def share(x: NDArray[np.float64]) -> float:
        return round(20 * np.exp(3 * sphere(x))) / 20

    assert share(np.full(6, 0.8)) == 0.05
    assert score(optimizer, 600, share) == 1.0


def test_it_is_separable_above_some_hundred_dimensions_and_then_takes_late_answers_too() -> None:
    assert not CMA(SEPARABLE_ABOVE, np.full(SEPARABLE_ABOVE, 0.5), 0)._separable
    n = 310
    optimizer = CMA(n, np.full(n, 0.5), 0)
    assert optimizer._separable
    drive(optimizer, 200, 30)
    loaded = CMA(n, np.full(n, 0.5), 0)
    loaded.load_state(optimizer.dump_state())
    assert_equal_points(drive(loaded, 60, 30), drive(optimizer, 60, 30))


def test_the_full_matrix_survives_a_state_in_sixteen_dimensions() -> None:
    optimizer = CMA(16, np.full(16, 0.8), 0, separable=False)
    score(optimizer, 40 * optimizer.population)
    assert np.abs(optimizer._es.sm.C - np.diag(np.diag(optimizer._es.sm.C))).max() > 0.01
    state = optimizer.dump_state()
    loaded = CMA(16, np.full(16, 0.8), 0, separable=False)
    loaded.load_state(state)
    assert len(state) < 40_000
    assert_equal_points(drive(loaded, 200), drive(optimizer, 200))


def test_nothing_is_written_and_nothing_is_printed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cma_signals.in").write_text("{'tolx': 1e9}")  # pycma's file of live options: not ours to read
    optimizer = CMA(3, [0.5] * 3, 0)
    drive(optimizer, 100, 9)
    assert optimizer.restarts == 0
    assert [path.name for path in tmp_path.iterdir()] == ["cma_signals.in"]
    assert capsys.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


def test_options_change_what_they_name() -> None:
    narrow = make_optimizer("cma", n_dims=4, start=[0.5] * 4, seed=0, sigma=0.001, population=31)
    assert narrow.population == 31
    assert np.ptp([narrow.ask().x for _ in range(31)]) < 0.01


@pytest.mark.parametrize(("n_dims", "separable"), [(1, False), (4, False), (4, True), (400, True)])
def test_it_says_its_step_size_and_the_axes_of_its_distribution(n_dims: int, separable: bool) -> None:
    optimizer = CMA(n_dims, [0.5] * n_dims, 3, separable=separable)
    first = optimizer.diagnostics()
    assert (first["step_size"], first["generation"], first["restarts"]) == (0.2, 0, 0)
    assert first["axes"] == [0.2] * min(n_dims, MOST_AXES)
    weights = np.arange(1, n_dims + 1) ** 3
    while optimizer.diagnostics()["generation"] < 8:
        point = optimizer.ask()
        optimizer.tell(point.number, Result((-float(np.sum(weights * (point.x - 0.4) ** 2)),)))
    found, es = optimizer.diagnostics(), optimizer._es
    assert found["population"] == optimizer.population
    assert found["step_size"] == pytest.approx(es.sigma, rel=1e-3)
    if n_dims == 4 and not separable:
        # It was decomposed some generations ago.
        assert found["axes"] == pytest.approx(es.sigma * np.sqrt(np.linalg.eigvalsh(es.sm.C))[::-1], rel=0.1)
        assert found["axes"] == pytest.approx(es.sigma * np.sort(es.sm.D)[::-1], rel=1e-3)
    else:
        stds = np.sort(es.result.stds[:n_dims])[::-1]
        assert found["axes"][0] == pytest.approx(stds[0], rel=1e-3)
        assert found["axes"][-1] == pytest.approx(stds[-1], rel=1e-3)
    assert len(found["axes"]) == min(n_dims, MOST_AXES)


def test_pycma_does_not_ask_for_matplotlib() -> None:
    code = (
        "import sys, warnings; sys.modules['matplotlib'] = None; import numpy as np\n"
        "from evomerge.optimizers.cma_es import CMA\n"
        "CMA(2, np.full(2, 0.5), 0).ask()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
