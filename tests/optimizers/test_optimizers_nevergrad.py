"""Optimizers of nevergrad: what works, and that what does not is said before a search."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from optimizer_cases import assert_equal_points, drive, sphere, told

from evomerge.optimizers import check_optimizer, make_optimizer, nevergrad_adapter, nevergrad_library
from evomerge.optimizers.nevergrad_adapter import FAILED_LOSS, Nevergrad


@pytest.fixture(autouse=True)
def short_rehearsals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nevergrad_adapter, "REHEARSAL_SECONDS", 1.0)


@pytest.mark.parametrize("algorithm", ["DE", "CMA", "PSO", "TBPSA", "OnePlusOne"])
def test_it_climbs(algorithm: str) -> None:
    start = np.full(6, 0.9)
    optimizer = make_optimizer(f"nevergrad:{algorithm}", n_dims=6, start=start, seed=0)
    best = max(sphere(x) for x in drive(optimizer, 400))
    assert best > 0.2 * sphere(start)


def test_the_search_begins_at_the_start() -> None:
    start = [0.1, 0.9, 0.25]
    optimizer = Nevergrad(3, start, 0, algorithm="OnePlusOne")
    assert np.allclose(optimizer.ask().x, start, atol=1e-12)


def test_failed_candidates_are_told_a_finite_loss_above_all_others() -> None:
    optimizer = Nevergrad(3, [0.5] * 3, 0, algorithm="OnePlusOne")
    for fitness in (None, -1e6, float("nan"), -2e6, float("inf")):
        optimizer.tell(optimizer.ask().number, told(fitness))
    assert optimizer._library is not None
    inner = optimizer._library._optimizer
    assert sorted(value.mean for value in inner.archive.values()) == [1e6, 2e6, FAILED_LOSS, FAILED_LOSS, FAILED_LOSS]
    assert inner.current_bests["optimistic"].mean == 1e6


@pytest.mark.parametrize(
    "name",
    ["DE", "CMA", "PSO", "TBPSA", "OnePlusOne", "DiscreteOnePlusOne", "NGOpt", "Cobyla", "LognormalDiscreteOnePlusOne"],
)
def test_the_common_ones_pass_the_rehearsal(name: str) -> None:
    assert check_optimizer(f"nevergrad:{name}", {"budget": 120 if name != "NGOpt" else 1000}, 5) == []


PEAK = np.random.default_rng(3).random(10)


def loss_of(optimizer: Nevergrad, asks: int, outstanding: int, *, fail: bool = False) -> float:
    """Run a search on a sphere, first come first served; one candidate in seven fails if asked."""
    best, waiting = np.inf, []
    for _ in range(asks):
        waiting.append(optimizer.ask())
        if len(waiting) == outstanding:
            point = waiting.pop(0)
            loss = float(np.sum((point.x - PEAK[: optimizer.n_dims]) ** 2))
            failed = fail and point.number % 7 == 3
            best = best if failed else min(best, loss)
            optimizer.tell(point.number, None if failed else told(-loss))
    return best


@pytest.mark.parametrize(
    ("name", "outstanding"),
    [
        *[("NGOpt", 2), ("Cobyla", 10)],
        *[
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (("NGOpt", 1), ("NGOpt", 10), ("Cobyla", 1), ("Cobyla", 2))
        ],
    ],
)
def test_outstanding_asks_cost_little(name: str, outstanding: int) -> None:
    """What nevergrad chooses for one worker comes to 2e-14 here; two workers used to end at ask 118 with 0.03."""
    optimizer = Nevergrad(10, [0.5] * 10, 0, algorithm=name, budget=300)
    assert loss_of(optimizer, 300, outstanding) < 1e-9
    assert optimizer.failure is None and optimizer.sequential


@pytest.mark.parametrize("workers", [2, 10])
def test_plans_for_several_workers_get_through_too(workers: int) -> None:
    optimizer = Nevergrad(10, [0.5] * 10, 0, algorithm="NGOpt", budget=300, workers=workers)
    assert loss_of(optimizer, 300, workers) < 1e-9
    assert optimizer.failure is None and not optimizer.sequential


# Portfolios, chains, surrogates, one-shot designs, discrete and quasi-Newton ones, and those of other libraries.
REPRESENTATIVE = (
    *("ASCMADEthird", "ChainCMAwithLHS30", "LHSSearch", "SmallLognormalDiscreteOnePlusOne", "SQP"),
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("CMALn", "DS2", "FSQPCMA", "NelderMead", "SPSA", "NgIohTuned", "QODE", "ParaPortfolio")
    ),
)


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_a_search_gets_through_with_failures_beyond_its_budget_and_resumes(name: str) -> None:
    for n_dims, outstanding in ((3, 2), (1, 10)):
        optimizer = Nevergrad(n_dims, [0.5] * n_dims, 0, algorithm=name, budget=40)
        assert loss_of(optimizer, 40, outstanding, fail=True) < 0.3
        assert optimizer.failure is None
        loss_of(optimizer, 8, outstanding)
        other = Nevergrad(n_dims, [0.5] * n_dims, 0, algorithm=name, budget=40)
        other.load_state(optimizer.dump_state())
        assert other.dump_state() == optimizer.dump_state()
        assert_equal_points([optimizer.ask().x for _ in range(4)], [other.ask().x for _ in range(4)])


def test_a_rehearsal_keeps_to_the_budget_of_those_that_end_with_it(caplog: pytest.LogCaptureFixture) -> None:
    assert check_optimizer("nevergrad:ScrHammersleySearch", {"budget": 20}, 3) == []
    optimizer = Nevergrad(3, [0.5] * 3, 0, algorithm="ScrHammersleySearch", budget=20)
    drive(optimizer, 20)
    assert optimizer.failure is None
    assert max(sphere(x) for x in drive(optimizer, 60)) > -0.01  # goes on from the best point
    assert optimizer.failure is not None and "could not give point 20" in optimizer.failure
    assert "the search goes on without it" in caplog.text


def test_what_is_refused_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    known = nevergrad_library.registry()
    named = {name for names in nevergrad_library.NEEDS.values() for name in names} | {*nevergrad_library.UNREPEATABLE}
    assert named <= set(known)
    (problem,) = check_optimizer("nevergrad:MultiDS", {}, 3)
    assert "MultiDS cannot be used: several of its threads" in problem and "choose another" in problem
    monkeypatch.setattr(nevergrad_library.importlib.util, "find_spec", lambda name: None)
    assert set(nevergrad_library.refused()) == named
    (problem,) = check_optimizer("nevergrad:NLOPT_LN_SBPLX", {}, 3)
    assert "it needs the Python module nlopt, which is not installed" in problem


@pytest.mark.parametrize("name", ["DiagonalCMA", "RotatedRecombiningGA", "CmaFmin2", "NGOpt"])
def test_one_dimension_is_no_exception_and_spoils_no_other(name: str) -> None:
    """nevergrad's CMA asks for another library there, and then in every dimension."""
    for n_dims in (1, 4):
        assert check_optimizer(f"nevergrad:{name}", {"budget": 60}, n_dims) == []
        optimizer = Nevergrad(n_dims, [0.9] * n_dims, 0, algorithm=name, budget=60)
        assert loss_of(optimizer, 60, 1) < 0.6 and optimizer.failure is None


def test_an_optimizer_that_fails_on_every_search_is_refused_before_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(self: object) -> object:
        raise TypeError("only 0-dimensional arrays can be converted to Python scalars")

    monkeypatch.setattr(nevergrad_library.LibraryOptimizer, "ask", ask)
    (problem,) = check_optimizer("nevergrad:DE", {}, 3)
    assert "could not give point 0: TypeError" in problem and "Choose another" in problem


def test_one_that_models_losses_is_not_told_of_failures_by_huge_numbers() -> None:
    losses = nevergrad_adapter._Losses()
    assert losses.of(None, gentle=True) == FAILED_LOSS  # nothing is known yet
    assert [losses.of(-x, gentle=True) for x in (3.0, 5.0)] == [3.0, 5.0]
    failed, slightly, badly = (losses.of(x, gentle=True) for x in (None, -1e9 - 0.1, -1e9 - 9.0))
    assert 5.0 < slightly < badly < failed < 10.0
    assert losses.of(None, gentle=False) == FAILED_LOSS and losses.of(-1e9 - 1, gentle=False) == 1e9 + 1


def test_no_thread_keeps_the_process_from_ending() -> None:
    optimizer = Nevergrad(3, [0.5] * 3, 0, algorithm="Powell")
    optimizer.ask()
    alive = [thread for thread in threading.enumerate() if type(thread).__name__ == "_MessagingThread"]
    assert alive and all(thread.daemon for thread in alive)


def test_a_replay_that_gives_other_points_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = Nevergrad(3, [0.5] * 3, 0, algorithm="DE")
    drive(optimizer, 40)
    state = optimizer.dump_state()
    original = nevergrad_library.own_generator
    # Stands for another processor: the same program, other numbers.
    monkeypatch.setattr(nevergrad_library, "own_generator", lambda seed, purpose: original(seed + 1, purpose))
    with pytest.raises(ValueError, match="did not propose the same points again when its 40 asks were replayed"):
        optimizer.load_state(state)
    monkeypatch.undo()
    optimizer.load_state(state)
    other = Nevergrad(3, [0.5] * 3, 0, algorithm="DE")
    other.load_state(state)
    assert_equal_points(drive(optimizer, 30), drive(other, 30))


def test_a_state_of_another_version_of_the_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    state = Nevergrad(3, [0.5] * 3, 0, algorithm="DE").dump_state()
    monkeypatch.setattr(nevergrad_adapter, "version", lambda name: "99.0")
    with pytest.raises(ValueError, match=r"library: the state has 'nevergrad 1\.\d+\.\d+', here 'nevergrad 99\.0'"):
        Nevergrad(3, [0.5] * 3, 0, algorithm="DE").load_state(state)
