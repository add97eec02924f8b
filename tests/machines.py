"""Executors without models or processes, for the tests of searches: what they answer is a rule of each test's own."""

from collections.abc import Callable
from dataclasses import dataclass, field

from evomerge.errors import Interrupted
from evomerge.execution.base import Executor
from evomerge.record import Job, Outcome


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@dataclass
class Machine(Executor):
    """Answers one job after another, not in order of submission; a subclass says what.

    Attributes:
        capacity: how many jobs it takes at a time.
        die_at: after how many it is killed.
        before: called before each.
        jobs: what was submitted and not answered.
        ran: what was answered.
    """

    capacity: int = 1
    die_at: int | None = None
    before: Callable[[], None] = lambda: None
    jobs: list[Job] = field(default_factory=list)
    ran: list[Job] = field(default_factory=list)

    def submit(self, job: Job) -> None:
        assert len(self.jobs) < self.capacity
        self.jobs.append(job)

    def collect(self) -> Outcome:
        assert self.jobs
        if self.die_at is not None and len(self.ran) >= self.die_at:
            raise Killed
        try:
            self.before()
        except Interrupted:
            self.jobs.clear()  # as those of every executor
            raise
        job = self.jobs.pop(self.pick())
        self.ran.append(job)
        return self.answer(job)

    def pick(self) -> int:
        """Return which of the jobs is done next."""
        return len(self.jobs) // 2

    def answer(self, job: Job) -> Outcome:
        raise NotImplementedError

    def close(self) -> None:
        pass
