from evomerge.execution.pool.workers import RATE_SECONDS, Crew, Duty


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_busy_time_counts_over_the_time_that_workers_were_ready_also_of_those_that_are_gone() -> None:
    clock = Clock()
    crew = Crew(clock)
    assert crew.utilisation is None
    one, two = crew.enter("a"), crew.enter("b")
    clock.now = 10.0  # starting takes time that nobody is blamed for
    for member in (one, two):
        crew.placed(member, "here", 7)
        crew.opened(member, "cpu")
    crew.takes(one, 3)
    clock.now = 20.0
    assert crew.utilisation == 0.5
    crew.rests(one, answered=True)
    crew.takes(two, 4)
    clock.now = 30.0
    crew.leaves(two)
    clock.now = 40.0
    assert crew.utilisation == (10.0 + 10.0) / (30.0 + 20.0)
    assert (len(crew), crew.lost, crew.n_ready) == (1, 1, 1)
    assert one in crew and two not in crew


def test_the_rate_is_that_of_the_last_minutes() -> None:
    clock = Clock()
    crew = Crew(clock)
    member = crew.enter("a")
    crew.opened(member, "cpu")
    assert crew.rate is None
    for _ in range(11):
        crew.takes(member, 0)
        clock.now += 2.0
        crew.rests(member, answered=True)
    assert crew.rate == 30.0
    clock.now += 2 * RATE_SECONDS
    assert crew.rate is None


def test_the_report_says_what_each_worker_does() -> None:
    clock = Clock()
    crew = Crew(clock)
    first, second = crew.enter("a"), crew.enter("b")
    crew.opened(first, "cuda:0")  # the two answers may come in either order
    crew.placed(first, "node1", 17)
    crew.takes(first, 5)
    clock.now = 3.0
    report = crew.report()
    assert report["workers"][0] | {"done": 0} == {
        "id": 0, "node": "node1", "pid": 17, "device": "cuda:0", "state": "busy", "candidate": 5,
        "for_seconds": 3.0, "done": 0, "busy_seconds": 0.0,
    }  # fmt: skip
    assert report["workers"][1]["state"] == Duty.WAITING == second.duty
    assert first.label == "worker 0 on node1" and second.label == "worker 1"
