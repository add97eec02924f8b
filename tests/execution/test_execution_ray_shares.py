"""One candidate's questions answered by several workers of the pool."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ray_workers import Dummy, answer, job, noted

from evomerge.errors import Interrupted
from evomerge.execution.base import StopSignal
from evomerge.execution.pool.cluster import Cluster
from evomerge.execution.pool.executor import RayExecutor
from evomerge.execution.pool.settings import PoolSettings
from evomerge.execution.pool.workers import WorkerState
from evomerge.record import State

UNITS = 10
FAULTS = {10: "kill", 11: "bug", 12: "memory", 20: "failed", 21: "bug"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the workers note what they did; candidates are told apart by their numbers."""
    return tmp_path_factory.mktemp("shares")


@pytest.fixture(scope="module")
def pool(ray_cluster, folder: Path):
    executor = RayExecutor(
        Dummy(str(folder), units=UNITS, seconds=0.25, faults=FAULTS, forever=(20, 21)),
        cluster=Cluster(address=ray_cluster.address),
        settings=PoolSettings(workers=3),
        stop=StopSignal(),
    )
    yield executor
    executor.close()


@pytest.fixture
def executor(pool: RayExecutor):
    """The pool, with all of its workers there and nothing to do."""
    deadline = time.monotonic() + 120.0
    while sum(worker.state == WorkerState.IDLE for worker in pool.pool) < 3 and time.monotonic() < deadline:
        pool._step()
    assert pool.capacity == 3
    pool.pool.lost = pool.pool.steals = 0
    return pool


def asked(folder: Path, candidate: int) -> list[int]:
    return [noted(folder, f"asked{candidate}.{unit}") for unit in range(UNITS)]


def test_idle_workers_take_parts_of_the_candidate_that_is_left(executor, folder) -> None:
    before = {worker.number: (worker.done, worker.busy_seconds) for worker in executor.pool}
    executor.submit(job(1))
    outcome = executor.collect()
    assert (outcome.state, outcome.scores) == (State.COMPLETE, answer(job(1)).scores)
    assert outcome.answers == answer(job(1)).answers
    assert asked(folder, 1) == [1] * UNITS
    assert outcome.parts == {"decode": 100.0 + 0.25 * UNITS, "scoring": 1.0}  # of all who shared it
    assert noted(folder, "ran1") >= 3
    assert executor.pool.steals >= 2
    assert executor.report()["shared"] == executor.pool.steals
    after = {worker.number: (worker.done, worker.busy_seconds) for worker in executor.pool}
    assert sum(after[number][0] - before[number][0] for number in before) == 1
    assert all(after[number][1] - before[number][1] > 0.2 for number in before)
    with pytest.raises(RuntimeError, match="no job is outstanding"):
        executor.collect()


def test_nothing_is_shared_where_there_is_work_for_all(executor, folder) -> None:
    for number in range(2, 8):
        executor.submit(job(number))
    for _ in range(6):
        executor.collect()
    assert [noted(folder, f"ran{number}") for number in range(2, 5)] == [1] * 3
    assert all(asked(folder, number) == [1] * UNITS for number in range(2, 8))


@pytest.mark.parametrize("candidate", [10, 11, 12])
def test_a_part_whose_worker_is_lost_is_done_by_another_one(executor, folder, candidate) -> None:
    executor.submit(job(candidate))
    outcome = executor.collect()
    assert (outcome.state, outcome.scores) == (State.COMPLETE, answer(job(candidate)).scores)
    assert executor.pool.lost == 1
    assert asked(folder, candidate)[:3] == [1] * 3  # the first worker's were not asked again
    assert asked(folder, candidate)[-1] == 1


def test_a_candidate_that_cannot_be_scored_fails_as_with_one_worker(executor, folder) -> None:
    executor.submit(job(20))
    outcome = executor.collect()
    assert (outcome.state, outcome.error) == (State.FAILED, "it cannot be scored")
    assert executor.pool.lost == 0
    assert noted(folder, "fault20") == 2  # in a part, and then alone
    assert asked(folder, 20)[0] == 2


def test_a_candidate_whose_parts_fail_on_three_workers_has_failed(executor) -> None:
    executor.submit(job(21))
    outcome = executor.collect()
    assert outcome.state == State.FAILED
    assert (outcome.error or "").count("ZeroDivisionError: a bug in the worker") == 3
    executor.submit(job(22))
    assert executor.collect().state == State.COMPLETE


def test_a_worker_that_dies_after_it_gave_a_part_away_costs_nothing_but_time(executor, folder) -> None:
    executor.submit(job(30))
    while executor.pool.steals < 2:
        executor._step()
    running = executor._queue.running
    owner = next(one for one in executor.pool if one.candidate == 30 and running[one.number].first == 0)
    os.kill(owner.pid, signal.SIGKILL)
    outcome = executor.collect()
    assert (outcome.state, outcome.scores) == (State.COMPLETE, answer(job(30)).scores)
    assert executor.pool.lost == 1


def test_stopping_stops_all_parts(executor, folder) -> None:
    executor.submit(job(31))
    while executor.pool.steals < 2:
        executor._step()
    executor._stop.deadline = time.monotonic()
    with pytest.raises(Interrupted):
        executor.collect()
    executor._stop.deadline = None
    executor.submit(job(32))
    assert executor.collect().job.candidate == 32
    assert executor.pool.lost == 0
    assert sum(asked(folder, 31)) < UNITS


def test_who_says_so_keeps_each_candidate_with_one_worker(executor, folder, monkeypatch) -> None:
    monkeypatch.setattr(executor, "settings", replace(executor.settings, share=False))
    executor.submit(job(40))
    executor.collect()
    assert noted(folder, "ran40") == 1
    assert asked(folder, 40) == [1] * UNITS
