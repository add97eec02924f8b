from evomerge.execution.pool.workers import RATE_SECONDS, WorkerPool, WorkerState


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_busy_time_counts_over_the_time_that_workers_were_ready_also_of_those_that_are_gone() -> None:
    clock = Clock()
    pool = WorkerPool(clock)
    assert pool.utilisation is None
    one, two = pool.add("a"), pool.add("b")
    clock.now = 10.0  # starting takes time that nobody is blamed for
    for worker in (one, two):
        pool.place(worker, "here", 7)
        pool.open(worker, "cpu")
    pool.assign(one, 3)
    clock.now = 20.0
    assert pool.utilisation == 0.5
    pool.finish(one, answered=True)
    pool.assign(two, 4)
    clock.now = 30.0
    pool.remove(two)
    clock.now = 40.0
    assert pool.utilisation == (10.0 + 10.0) / (30.0 + 20.0)
    assert (len(pool), pool.lost, pool.n_ready) == (1, 1, 1)
    assert one in pool and two not in pool


def test_the_rate_is_that_of_the_last_minutes() -> None:
    clock = Clock()
    pool = WorkerPool(clock)
    worker = pool.add("a")
    pool.open(worker, "cpu")
    assert pool.rate is None
    for _ in range(11):
        pool.assign(worker, 0)
        clock.now += 2.0
        pool.finish(worker, answered=True)
    assert pool.rate == 30.0
    clock.now += 2 * RATE_SECONDS
    assert pool.rate is None


def test_the_report_says_what_each_worker_does() -> None:
    clock = Clock()
    pool = WorkerPool(clock)
    first, second = pool.add("a"), pool.add("b")
    pool.open(first, "cuda:0")  # the two answers may come in either order
    pool.place(first, "node1", 17)
    pool.assign(first, 5)
    clock.now = 3.0
    report = pool.report()
    assert report["workers"][0] | {"done": 0} == {
        "id": 0, "node": "node1", "pid": 17, "device": "cuda:0", "state": "busy", "candidate": 5,
        "for_seconds": 3.0, "done": 0, "busy_seconds": 0.0,
    }  # fmt: skip
    assert report["workers"][1]["state"] == WorkerState.WAITING == second.state
    assert first.label == "worker 0 on node1" and second.label == "worker 1"
