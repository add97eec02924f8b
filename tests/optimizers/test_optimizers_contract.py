"""One suite that every optimizer passes: the contract in `evomerge.optimizers.base`."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
from optimizer_cases import CASES, Case, assert_equal_points, drive, fitness_of, sphere, told

from evomerge.optimizers import make_optimizer


def test_points_lie_in_the_unit_cube_and_are_read_only_float64(case: Case) -> None:
    optimizer = case.make()
    for number in range(40):
        proposal = optimizer.ask()
        assert proposal.number == number
        assert proposal.x.shape == (case.n_dims,)
        assert proposal.x.dtype == np.float64
        assert np.all((proposal.x >= 0.0) & (proposal.x <= 1.0))
        with pytest.raises(ValueError, match="read-only"):
            proposal.x[0] = 0.5
        optimizer.tell(number, told(fitness_of(proposal)))


def test_the_same_seed_gives_the_same_points(case: Case) -> None:
    assert_equal_points(drive(case.make(), 60), drive(case.make(), 60))


def test_another_seed_gives_other_points(case: Case) -> None:
    one, other = drive(case.make(), 30), drive(case.make(seed=8), 30)
    # Not all: some begin at the start itself, and points are clipped at the same borders. Cobyla, which NGOpt chooses
    # here, draws nothing: only the points beside its own differ.
    same = 0.2 if "Cobyla" not in case.name and case.n_dims != 10 else 0.5
    assert np.mean([np.array_equal(a, b) for a, b in zip(one, other, strict=True)]) < same


def test_points_do_not_depend_on_the_global_generators(case: Case) -> None:
    expected = drive(case.make(), 40)
    optimizer, points = case.make(), []
    before_numpy, before_random = np.random.get_state(legacy=True), random.getstate()  # noqa: NPY002
    try:
        for i in range(40):
            # What lm-eval does at each evaluation.
            np.random.seed(1234)  # noqa: NPY002
            random.seed(i)
            proposal = optimizer.ask()
            points.append(proposal.x)
            if proposal.number % 11 != 10:
                optimizer.tell(proposal.number, told(fitness_of(proposal)))
    finally:
        np.random.set_state(before_numpy)  # noqa: NPY002
        random.setstate(before_random)
    assert_equal_points(points, expected)


def test_the_global_generators_stay_as_they_are(case: Case) -> None:
    def state() -> tuple[object, ...]:
        kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
        return kind, np.asarray(keys).tobytes(), tuple(rest), random.getstate()

    before = state()
    optimizer = case.make()
    drive(optimizer, 40, outstanding=3)
    other = case.make()
    other.load_state(optimizer.dump_state())
    assert state() == before


@pytest.mark.parametrize("failure", [None, float("nan"), float("inf"), float("-inf")], ids=str)
def test_failed_candidates_are_taken_also_when_all_fail(case: Case, failure: float | None) -> None:
    optimizer = case.make()
    for _ in range(30):
        optimizer.tell(optimizer.ask().number, told(failure))
    for _ in range(30):
        proposal = optimizer.ask()
        assert np.all((proposal.x >= 0.0) & (proposal.x <= 1.0))
        optimizer.tell(proposal.number, told(sphere(proposal.x)))


@pytest.mark.parametrize("outstanding", [1, 3, 17])
def test_several_asks_may_be_outstanding_and_be_told_in_any_order(case: Case, outstanding: int) -> None:
    points = drive(case.make(), 80, outstanding)
    # Random numbers do not repeat; what does are copies handed out twice.
    if case.name not in ("nevergrad:DiscreteOnePlusOne", "nevergrad:PSO"):
        assert len({x.tobytes() for x in points}) > 60


def test_a_number_that_was_never_asked_is_refused(case: Case) -> None:
    optimizer = case.make()
    optimizer.ask()
    for number in (1, -1, 99):
        with pytest.raises(RuntimeError, match=f"proposal {number} was never asked"):
            optimizer.tell(number, told(0.5))


def test_a_number_that_is_told_twice_is_refused_and_changes_nothing(case: Case) -> None:
    optimizer, other = case.make(), case.make()
    for _ in range(12):
        proposal = optimizer.ask()
        optimizer.tell(proposal.number, told(sphere(proposal.x)))
        with pytest.raises(RuntimeError, match="told before"):
            optimizer.tell(proposal.number, told(1.0))
        other.tell(other.ask().number, told(sphere(proposal.x)))
    assert_equal_points([optimizer.ask().x], [other.ask().x])


@pytest.mark.parametrize(
    ("n_asks", "outstanding"),
    [
        *[(0, 1), (8, 4), (37, 1)],
        *[pytest.param(*one, marks=pytest.mark.slow) for one in ((0, 4), (1, 1), (1, 4), (8, 1), (37, 4))],
    ],
)
def test_a_loaded_state_continues_bit_for_bit(case: Case, n_asks: int, outstanding: int) -> None:
    optimizer = case.make()
    drive(optimizer, n_asks, outstanding)
    state = optimizer.dump_state()
    expected = drive(optimizer, 30, outstanding)
    loaded = case.make()
    drive(loaded, 5)  # what it did before does not count
    loaded.load_state(state)
    assert loaded.dump_state() == state
    assert_equal_points(drive(loaded, 30, outstanding), expected)


def test_outstanding_asks_can_be_told_after_loading(case: Case) -> None:
    optimizer = case.make()
    drive(optimizer, 13)
    waiting = [optimizer.ask() for _ in range(5)]
    loaded = case.make()
    loaded.load_state(optimizer.dump_state())
    for proposal in reversed(waiting):
        optimizer.tell(proposal.number, told(sphere(proposal.x)))
        loaded.tell(proposal.number, told(sphere(proposal.x)))
        with pytest.raises(RuntimeError, match="told before"):
            loaded.tell(proposal.number, told(0.0))
    assert_equal_points(drive(loaded, 30), drive(optimizer, 30))


CHILD = """
import json, sys
from base64 import b64decode
sys.path.insert(0, sys.argv[1])
from optimizer_cases import CASES, drive
for case, state in zip(CASES, json.load(sys.stdin)):
    optimizer = case.make()
    optimizer.load_state(b64decode(state))
    print(json.dumps([x.tobytes().hex() for x in drive(optimizer, 30, 3)]), flush=True)
"""


@pytest.fixture(scope="module")
def in_a_fresh_process() -> dict[str, tuple[list[str], list[str]]]:
    """For each case the next 30 points here and in another process, from a state in the middle of a generation."""
    states, here = [], []
    for case in CASES:
        optimizer = case.make()
        drive(optimizer, 43, 4)
        states.append(b64encode(optimizer.dump_state()).decode())
        here.append([x.tobytes().hex() for x in drive(optimizer, 30, 3)])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parent)],
        input=json.dumps(states),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    there = [json.loads(line) for line in done.stdout.splitlines()]
    return {str(case): (one, other) for case, one, other in zip(CASES, here, there, strict=True)}


def test_a_state_continues_bit_for_bit_in_a_fresh_process(
    case: Case, in_a_fresh_process: dict[str, tuple[list[str], list[str]]]
) -> None:
    here, there = in_a_fresh_process[str(case)]
    assert here == there


def test_a_state_of_another_optimizer_size_or_option_is_refused_and_changes_nothing(case: Case) -> None:
    optimizer = case.make()
    drive(optimizer, 9)
    before = optimizer.dump_state()
    others = [
        Case("cma" if case.name == "random" else "random", case.n_dims),
        Case(case.name, case.n_dims + 3, case.options),
    ]
    for other in others:
        with pytest.raises(ValueError, match="the state belongs to another optimizer"):
            optimizer.load_state(other.make().dump_state())
    with pytest.raises(ValueError, match="seed: the state has 8, here 7"):
        optimizer.load_state(case.make(seed=8).dump_state())
    assert optimizer.dump_state() == before


def test_a_damaged_state_is_refused_and_changes_nothing(case: Case) -> None:
    optimizer = case.make()
    drive(optimizer, 9)
    state = optimizer.dump_state()
    for damaged in (b"", b"nonsense", state[:-20], state[:60], state[:-40] + bytes(40)):
        with pytest.raises(ValueError, match=r"no optimizer state|damaged|another optimizer"):
            optimizer.load_state(damaged)
    assert optimizer.dump_state() == state


def test_the_state_is_small(case: Case) -> None:
    optimizer = case.make()
    drive(optimizer, 200, 3)
    assert len(optimizer.dump_state()) < 40_000  # it is saved with every record


@pytest.mark.parametrize(
    ("start", "message"),
    [([0.5] * 4, r"shape \(5,\)"), ([0.5, 0.5, 0.5, 0.5, 1.5], "unit cube"), ([float("nan")] * 5, "unit cube")],
)
def test_a_start_outside_the_cube_is_refused(start: list[float], message: str) -> None:
    for name in ("cma", "mixed", "random", "nevergrad:DE"):
        with pytest.raises(ValueError, match=message):
            make_optimizer(name, n_dims=5, start=start, seed=0)


@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_a_start_on_the_border_is_allowed(case: Case, corner: float) -> None:
    optimizer = make_optimizer(case.name, n_dims=3, start=[corner] * 3, seed=0, **case.options)
    for x in drive(optimizer, 40):
        assert np.all((x >= 0.0) & (x <= 1.0))


def test_how_it_stands_is_plain_data_and_changes_nothing(case: Case) -> None:
    asked, optimizer = case.make(), case.make()
    for _ in range(30):
        for one in (asked, optimizer):
            point = one.ask()
            one.tell(point.number, told(fitness_of(point)))
        found = asked.diagnostics()
        assert json.loads(json.dumps(found)) == found
        assert found == asked.diagnostics()
    assert asked.dump_state() == optimizer.dump_state()
    assert (case.name in ("cma", "mixed", "nsga2")) == bool(asked.diagnostics())


def test_those_from_which_a_point_was_bred_were_told_before(case: Case) -> None:
    optimizer, bred = case.make(), 0
    for number in range(60):
        point = optimizer.ask()
        assert point.parents == tuple(sorted(set(point.parents)))
        assert all(0 <= parent < number for parent in point.parents)
        bred += len(point.parents)
        optimizer.tell(number, told(fitness_of(point)))
    assert (case.name in ("mixed", "nsga2")) == bool(bred)
