"""Executors without models or processes, for the tests of searches: what they answer is a rule of each test's own."""

from collections.abc import Callable
from dataclasses import dataclass, field

from evomerge.errors import Interrupted
from evomerge.execution.base import Executor
from evomerge.optimizers.base import Optimizer, Point
from evomerge.record import Job, Outcome, Record, Result, Score, Split
from evomerge.store.run_dir import RunDir


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


class Told:
    """A listener that notes the proposals in the order in which they were told, which is that of the transactions."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def phase(self, name: str, total: int | None, done: int) -> None:
        pass

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        if split == Split.SEARCH and record.number >= 0 and not record.is_consensus:
            self.numbers.append(record.number)


class Noted(Optimizer):
    """Does what another optimizer does, and notes each tell with how many points had been asked for by then."""

    def __init__(self, inner: Optimizer) -> None:
        self.inner, self.n_dims = inner, inner.n_dims
        self.n_asked = 0
        self.tells: list[tuple[int, int]] = []

    @property
    def population(self) -> int:
        return self.inner.population

    @property
    def sure_asks(self) -> int:
        return self.inner.sure_asks

    def ask(self) -> Point:
        self.n_asked += 1
        return self.inner.ask()

    def tell(self, number: int, result: Result | None) -> None:
        self.tells.append((number, self.n_asked))
        self.inner.tell(number, result)

    def dump_state(self) -> bytes:
        return self.inner.dump_state()

    def load_state(self, state: bytes) -> None:
        self.inner.load_state(state)


def order_of_answers(run: RunDir) -> list[int]:
    """Candidates that were scored themselves, in the order in which their answers were written."""
    own = "SELECT candidate FROM item_scores WHERE split = 'search' AND candidate >= 0"
    rows = run.database._db.execute(f"{own} GROUP BY candidate ORDER BY MIN(id)")
    return [number for (number,) in rows]
