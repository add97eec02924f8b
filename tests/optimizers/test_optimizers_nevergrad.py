"""Optimizers of nevergrad: what works, and that what does not is said before a search."""

from __future__ import annotations

import numpy as np
import pytest
from optimizer_cases import assert_equal_points, drive, sphere, told

from evomerge.errors import EvomergeError
from evomerge.optimizers import check_optimizer, make_optimizer, nevergrad_adapter
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
    losses = sorted(value.mean for value in optimizer._optimizer.archive.values())
    assert losses == [1e6, 2e6, FAILED_LOSS, FAILED_LOSS, FAILED_LOSS]
    assert optimizer._optimizer.current_bests["optimistic"].mean == 1e6


@pytest.mark.parametrize("name", ["DE", "CMA", "PSO", "TBPSA", "OnePlusOne", "DiscreteOnePlusOne", "NGOpt"])
def test_the_common_ones_pass_the_rehearsal(name: str) -> None:
    assert check_optimizer(f"nevergrad:{name}", {"budget": 120 if name != "NGOpt" else 1000}, 5) == []


def test_a_rehearsal_keeps_to_the_budget_of_those_that_end_with_it() -> None:
    assert check_optimizer("nevergrad:ScrHammersleySearch", {"budget": 20}, 3) == []
    optimizer = Nevergrad(3, [0.5] * 3, 0, algorithm="ScrHammersleySearch", budget=20)
    drive(optimizer, 20)
    with pytest.raises(EvomergeError, match=r"could not give point 20: .*budget.* Choose another"):
        optimizer.ask()


def test_those_that_run_a_background_thread_are_refused() -> None:
    (problem,) = check_optimizer("nevergrad:Cobyla", {"workers": 1}, 3)
    assert "background thread" in problem
    (problem,) = check_optimizer("nevergrad:NGOpt", {"workers": 1, "budget": 50}, 3)  # chooses Cobyla
    assert "background thread" in problem
    optimizer = Nevergrad(3, [0.5] * 3, 0, algorithm="NGOpt", workers=1, budget=50)
    with pytest.raises(EvomergeError, match="choose another, for example cma"):
        optimizer.ask()


def test_those_that_draw_from_the_global_generator_are_refused() -> None:
    (problem,) = check_optimizer("nevergrad:LognormalDiscreteOnePlusOne", {"budget": 60}, 5)
    assert "did not propose the same points again" in problem or "draws from the global random generators" in problem


def test_a_replay_that_gives_other_points_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = Nevergrad(3, [0.5] * 3, 0, algorithm="DE")
    drive(optimizer, 40)
    state = optimizer.dump_state()
    original = nevergrad_adapter.own_generator
    # Stands for another processor: the same program, other numbers.
    monkeypatch.setattr(nevergrad_adapter, "own_generator", lambda seed, purpose: original(seed + 1, purpose))
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
