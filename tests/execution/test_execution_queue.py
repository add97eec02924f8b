"""The work queue with workers that are only pretended: random events, whatever order their messages come in."""

import random

import pytest
from ray_workers import job

from evomerge.evaluation.engines.units import UnitRange
from evomerge.execution.base import PartialAnswers
from evomerge.execution.pool.queue import ASK_SECONDS, WorkQueue
from evomerge.execution.pool.ranges import WorkRange, uncovered
from evomerge.execution.pool.workers import WorkerHandle, WorkerPool, WorkerState

UNITS = 20


class World:
    """Workers that answer a unit at a time, may die, and whose messages arrive late and in any order."""

    def __init__(self, seed: int, workers: int, deaths: int) -> None:
        self.random = random.Random(seed)
        self.deaths = deaths
        self.now = 0.0
        self.pool = WorkerPool(self.clock)
        self.queue = WorkQueue(self.pool, send=self.send, cancel=self.cancel, clock=self.clock)
        self.units: dict[int, tuple[WorkRange, UnitRange]] = {}
        self.answers: dict[int, dict[int, float]] = {}
        self.mail: list[tuple] = []
        self.finished: list[int] = []
        self.failed: list[int] = []
        self.asked: dict[tuple[int, int], int] = {}
        for _ in range(workers):
            self.enter()

    def clock(self) -> float:
        return self.now

    def enter(self) -> None:
        worker = self.pool.add(None)
        self.pool.place(worker, "here", 1)
        self.pool.open(worker, "cpu")

    def send(self, worker: WorkerHandle, work: WorkRange) -> None:
        candidate = work.pool_job.job.candidate
        if work.answers is not None:
            together = {unit: value for (some,) in work.answers for unit, value in some.items()}
            assert together == {unit: candidate + unit / UNITS for unit in range(UNITS)}
            self.mail.append(("done", worker, work, None))
            return
        units = UnitRange(work.first, work.end, pace=1.0, clock=self.clock)
        units.open(UNITS)
        self.units[worker.number] = work, units
        self.answers[worker.number] = {}

    def cancel(self, worker: WorkerHandle, work: WorkRange) -> None:
        self.pool.stop(worker)
        if self.units.pop(worker.number, None) is not None:  # else its answer is on its way
            self.mail.append(("stopped", worker, work, None))

    def work(self) -> None:
        for number in list(self.units):
            work, units = self.units[number]
            unit = units.first + len(self.answers[number])
            first, last = units.take(unit, unit + 1)
            candidate = work.pool_job.job.candidate
            if first < last:
                self.answers[number][unit] = candidate + unit / UNITS
                self.asked[candidate, unit] = self.asked.get((candidate, unit), 0) + 1
                continue
            (worker,) = (one for one in self.pool if one.number == number)
            del self.units[number]
            partial = PartialAnswers(units.first, units.end, UNITS, [self.answers[number]], 1.0)
            self.mail.append(("done" if units.whole else "partial", worker, work, partial))

    def kill(self, worker: WorkerHandle) -> None:
        self.deaths -= 1
        self.units.pop(worker.number, None)
        self.mail = [one for one in self.mail if one[1] is not worker]
        work = self.queue.running.pop(worker.number, None)
        stopping = worker.state == WorkerState.STOPPING
        self.pool.remove(worker)
        self.queue.remove(worker)
        if work is not None and not stopping:
            error = self.queue.retry(worker, work, "killed")
            if error is not None:
                assert error.count("killed") == 3
                self.failed.append(work.pool_job.job.candidate)
        self.enter()

    def hear(self) -> None:
        kind, worker, work, value = self.mail.pop(self.random.randrange(len(self.mail)))
        if kind == "steal":
            if worker.number in self.queue.steal_requests:
                del self.queue.steal_requests[worker.number]
                self.queue.add_stolen(work, value)
            return
        mine = self.queue.running.pop(worker.number, None)
        self.pool.finish(worker, answered=kind == "done")
        if mine is None:
            return
        if kind == "partial":
            self.queue.add_partial(worker, mine, value)
        else:
            self.queue.withdraw(mine.pool_job)
            self.finished.append(mine.pool_job.job.candidate)

    def step(self) -> None:
        self.now += ASK_SECONDS / 2
        self.queue.assign()
        for worker, work in self.queue.victims():
            running = self.units.get(worker.number)
            stolen = running[1].steal() if running is not None and running[0] is work else None
            self.queue.steal_requests[worker.number] = worker, work
            self.mail.append(("steal", worker, work, stolen))
        self.work()
        if self.deaths and self.random.random() < 0.05:
            self.kill(self.random.choice(list(self.pool)))
        while self.mail and self.random.random() < 0.6:
            self.hear()
        self.queue.assign()


@pytest.mark.parametrize("seed", range(40))
def test_each_candidate_ends_once_whatever_happens(seed: int) -> None:
    world = World(seed, workers=1 + seed % 5, deaths=seed % 9)
    jobs = 1 + seed % 7
    for number in range(jobs):
        world.queue.add(job(number))
    for _ in range(4000):
        if not world.queue:
            break
        world.step()
    assert not world.queue
    assert sorted(world.finished + world.failed) == list(range(jobs))
    assert set(world.asked) >= {(number, unit) for number in world.finished for unit in range(UNITS)}
    if not seed % 9:
        assert not world.failed
        assert set(world.asked.values()) == {1}
    if 1 + seed % 5 > jobs:
        assert world.pool.steals > 0


def test_one_worker_has_no_thief_and_work_for_all_is_not_divided() -> None:
    for workers, jobs in ((1, 3), (3, 3)):
        world = World(0, workers, deaths=0)
        for number in range(jobs):
            world.queue.add(job(number))
        world.queue.assign()
        world.now += 10.0
        assert list(world.queue.victims()) == []


def test_a_withdrawn_candidate_takes_no_more_and_stops_its_workers() -> None:
    world = World(1, workers=3, deaths=0)
    world.queue.add(job(0))
    while world.pool.steals < 2:
        world.step()
    (pool_job,) = {work.pool_job for work in world.queue.running.values()}
    world.queue.restart_undivided(pool_job)
    assert not world.queue.running
    assert {worker.state for worker in world.pool} <= {WorkerState.STOPPING, WorkerState.IDLE}
    while world.queue:
        world.step()
    assert world.finished == [0]
    assert world.pool.steals == 2


def test_workers_that_cut_differently_do_not_steal() -> None:
    world = World(2, workers=2, deaths=0)
    world.queue.add(job(0))
    while world.pool.steals < 1:
        world.step()
    ranges = {number: world.queue.running.pop(number) for number in list(world.queue.running)}
    for of, (number, work) in enumerate(ranges.items(), UNITS):
        (worker,) = (one for one in world.pool if one.number == number)
        world.pool.finish(worker, answered=False)
        world.queue.add_partial(worker, work, PartialAnswers(work.first, work.end or of, of, [{}], 1.0))
    (again,) = world.queue.waiting
    assert (again.first, again.end, again.pool_job.undivided, again.pool_job.partials) == (0, None, True, [])


@pytest.mark.parametrize(
    ("ranges", "n", "left"),
    [
        ([], 3, [(0, 3)]),
        ([(0, 3)], 3, []),
        ([(1, 2)], 3, [(0, 1), (2, 3)]),
        ([(2, 5), (0, 1)], 7, [(1, 2), (5, 7)]),
        ([(0, 4), (2, 3)], 5, [(4, 5)]),
    ],
)
def test_what_ranges_leave_out(ranges, n, left) -> None:
    assert uncovered(ranges, n) == left
