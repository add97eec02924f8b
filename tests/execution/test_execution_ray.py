"""The pool of Ray actors, with real processes that are killed, hang and break."""

import time
from pathlib import Path

import pytest
import ray_workers
from ray_workers import Dummy, answer, job, noted

from evomerge.errors import CheckpointError, ExecutionError, Interrupted
from evomerge.execution.base import Executor, StopSignal
from evomerge.execution.pool.cluster import Cluster, places
from evomerge.execution.pool.executor import RayExecutor
from evomerge.execution.pool.settings import PoolSettings
from evomerge.record import Outcome, Split, State


@pytest.fixture
def pool(ray_cluster, tmp_path: Path):
    """Make an executor of dummy workers; it is closed when the test ends."""
    made: list[RayExecutor] = []

    def make(workers: int | None = 2, *, timeout=None, n_items=None, stop=None, **dummy) -> RayExecutor:
        executor = RayExecutor(
            Dummy(str(tmp_path), **dummy),
            cluster=Cluster(address=ray_cluster.address),
            settings=PoolSettings(workers=workers, timeout=timeout, n_items=n_items or {}),
            stop=stop,
        )
        made.append(executor)
        return executor

    yield make
    for executor in made:
        executor.close()


def collect(executor: RayExecutor, n: int) -> dict[int, Outcome]:
    outcomes = [executor.collect() for _ in range(n)]
    found = {outcome.job.candidate: outcome for outcome in outcomes}
    assert len(found) == n
    return found


def test_each_job_comes_back_once_with_its_answer_from_several_workers(pool) -> None:
    executor = pool(3, seconds=0.02)
    assert executor.capacity == 3
    for number in range(20):
        executor.submit(job(number, list(Split)[number % 3]))
    found = collect(executor, 20)
    for number, outcome in found.items():
        assert outcome.job == job(number, list(Split)[number % 3])
        assert (outcome.state, outcome.scores) == (State.COMPLETE, answer(outcome.job).scores)
    assert len({outcome.device for outcome in found.values()}) == 3
    assert isinstance(executor, Executor)
    report = executor.report()
    assert sum(one["done"] for one in report["workers"]) == 20
    assert {one["state"] for one in report["workers"]} == {"idle"}
    assert 0.0 < report["utilisation"] <= 1.0
    assert report["jobs_per_minute"] > 0.0
    with pytest.raises(RuntimeError, match="no job is outstanding"):
        executor.collect()
    executor.close()
    executor.close()


def test_workers_that_are_killed_hang_or_break_are_replaced_and_their_jobs_done_elsewhere(pool, tmp_path) -> None:
    executor = pool(2, timeout=2.0, faults={1: "kill", 3: "hang", 5: "bug", 7: "cuda"})
    for number in range(10):
        executor.submit(job(number))
    found = collect(executor, 10)
    assert {outcome.state for outcome in found.values()} == {State.COMPLETE}
    assert [noted(tmp_path, f"ran{number}") for number in range(10)] == [1, 2, 1, 2, 1, 2, 1, 2, 1, 1]
    assert executor.pool.lost == executor.pool.retries == 4
    ready = [worker.number for worker in executor.pool if worker.ready]
    assert not set(ready) & {0, 1}


def test_a_worker_that_hangs_is_found_by_what_others_took(pool, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("evomerge.execution.pool.deadline.LEAST_SECONDS", 2.0)
    executor = pool(2, timeout="auto", n_items={Split.SEARCH: 5}, faults={3: "hang"})
    for number in range(6):
        executor.submit(job(number))
    found = collect(executor, 6)
    assert {outcome.state for outcome in found.values()} == {State.COMPLETE}
    assert noted(tmp_path, "ran3") == 2
    assert executor.pool.lost == 1


def test_a_candidate_that_fails_on_three_workers_has_failed_with_all_reasons(pool, tmp_path) -> None:
    executor = pool(3, faults={1: "bug"}, times=99)
    for number in range(3):
        executor.submit(job(number))
    found = collect(executor, 3)
    assert [found[number].state for number in range(3)] == [State.COMPLETE, State.FAILED, State.COMPLETE]
    error = found[1].error or ""
    assert error.count("ZeroDivisionError: a bug in the worker") == 3
    assert all(f"worker {number} on " in error for number in range(3))
    assert noted(tmp_path, "ran1") == 3


def test_a_candidates_own_faults_are_not_tried_again(pool, tmp_path) -> None:
    executor = pool(1, faults={0: "invalid", 1: "failed"}, times=99)
    for number in range(2):
        executor.submit(job(number))
    found = collect(executor, 2)
    assert [found[number].state for number in range(2)] == [State.INVALID, State.FAILED]
    assert [found[number].error for number in range(2)] == ["it cannot be built", "it cannot be scored"]
    assert noted(tmp_path, "ran0") == noted(tmp_path, "ran1") == 1
    assert executor.pool.lost == 0


@pytest.mark.slow
def test_a_worker_without_memory_is_replaced_by_one_with_smaller_batches(pool, tmp_path) -> None:
    executor = pool(1, faults={0: "memory", 1: "memory"})
    for number in range(3):
        executor.submit(job(number))
    assert {outcome.state for outcome in collect(executor, 3).values()} == {State.COMPLETE}
    assert [noted(tmp_path, f"batch{n}") for n in range(4)] == [1, 1, 1, 0]


def test_a_second_request_to_stop_reaches_the_workers_and_they_can_go_on(pool, tmp_path) -> None:
    stop = StopSignal()
    executor = pool(2, stop=stop, seconds=1.0)
    for number in range(4):
        executor.submit(job(number))
    stop.deadline = time.monotonic() + 0.3
    with pytest.raises(Interrupted):
        executor.collect()
    with pytest.raises(RuntimeError, match="no job is outstanding"):
        executor.collect()
    stop.deadline = None
    executor.submit(job(10))
    began = time.monotonic()
    assert executor.collect().job.candidate == 10
    assert executor.pool.lost == 0
    assert time.monotonic() - began < 60.0
    assert [noted(tmp_path, f"ran{number}") for number in range(4)][2:] == [0, 0]


def test_a_worker_that_refuses_to_start_says_where_and_why(pool) -> None:
    with pytest.raises(CheckpointError, match=r"worker \d on .*127\.0\.0\.1.* cannot work: math is another model here"):
        pool(2, refuse="math is another model here")


@pytest.mark.slow
def test_workers_that_cannot_be_made_end_the_search_with_the_reason(ray_cluster) -> None:
    class Broken:
        def __call__(self, stop, hints):
            raise OSError("a library is missing")

    import ray

    ray.cloudpickle.register_pickle_by_value(__import__(__name__))
    try:
        with pytest.raises(ExecutionError, match=r"3 workers in a row could not be started.*a library is missing"):
            RayExecutor(Broken(), cluster=Cluster(address=ray_cluster.address), settings=PoolSettings(workers=1))
    finally:
        ray.cloudpickle.unregister_pickle_by_value(__import__(__name__))
    assert not ray.is_initialized()


def test_a_machine_joins_and_another_is_lost_during_a_run(ray_cluster, pool, tmp_path) -> None:
    extra = ray_cluster.add_node(num_cpus=2)
    executor = pool(None, seconds=0.3)
    n_before = executor.capacity
    assert n_before == 6
    for number in range(40):
        executor.submit(job(number))
    found = collect(executor, 6)
    ray_cluster.remove_node(extra, allow_graceful=False)
    third = ray_cluster.add_node(num_cpus=1)
    try:
        while len(found) < 40:
            found |= collect(executor, 1)
        assert sorted(found) == list(range(40))
        assert {outcome.state for outcome in found.values()} == {State.COMPLETE}
        assert executor.pool.lost >= 2
        deadline = time.monotonic() + 60.0
        while executor.capacity != 5 and time.monotonic() < deadline:
            executor.submit(job(50))
            executor.collect()
        assert executor.capacity == 5
        assert len({worker.node for worker in executor.pool}) >= 1
    finally:
        executor.close()
        ray_cluster.remove_node(third)


def test_a_cluster_that_is_not_there_is_said_so() -> None:
    with pytest.raises(ExecutionError, match=r"no Ray cluster at 127\.0\.0\.1:1 .*ray start --head"):
        Cluster(address="127.0.0.1:1").connect()


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "expected"),
    [
        ({"CPU": 8.0}, 1, 0, 8),
        ({"CPU": 8.0}, 3, 0, 2),
        ({"CPU": 8.0}, 0.5, 0, 16),
        ({"CPU": 8.0, "GPU": 2.0}, 1, 1, 2),
        ({"CPU": 8.0, "GPU": 2.0}, 1, 0.25, 8),
        ({"CPU": 4.0, "GPU": 2.0}, 1, 0.25, 4),
        ({"CPU": 8.0, "GPU": 2.0}, 1, 0.75, 2),
        ({"CPU": 8.0}, 1, 1, 0),
        ({}, 1, 0, 0),
    ],
)
def test_how_many_workers_fit_into_a_machine(resources, cpus, gpus, expected) -> None:
    assert places(resources, cpus=cpus, gpus=gpus) == expected


def test_the_dummies_are_what_the_tests_think() -> None:
    assert ray_workers.answer(job(50)).scores[2].metrics == {"acc": 1.0}
