"""The contracts of executors, which take jobs and return outcomes, and of the workers that run the jobs.

The search knows nothing more about where candidates run. Nothing here needs a model library.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evomerge.evaluation.engines.base import Answers
from evomerge.evaluation.engines.units import UnitRange
from evomerge.record import Job, Outcome


class Executor(ABC):
    """Builds and scores candidates somewhere.

    What callers may assume: each submitted job comes back from `collect` or `more` exactly once. A candidate that
    cannot be built or scored comes back as INVALID or FAILED with the reason; an exception means that the executor
    itself is broken, and ends the search.

    Attributes:
        concurrent: whether jobs run while the caller does something else; if not, they run within `collect`.
    """

    concurrent: bool = False

    @property
    def capacity(self) -> int:
        """How many jobs should be outstanding to keep every worker busy; it may change."""
        return 1

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Queue a job."""

    @abstractmethod
    def collect(self) -> Outcome:
        """Wait for an outstanding job and return its outcome.

        Raises:
            Interrupted: if the user stopped the run, or the deadline passed, before a job was done.
        """

    def more(self) -> Sequence[Outcome]:
        """Return further outcomes that need no waiting; they count as collected."""
        return ()

    def report(self) -> dict[str, Any] | None:
        """Return what the workers are doing, as plain data for `evomerge status`; None: there is nothing to report.

        `evomerge.execution.pool.workers.WorkerPool.report` describes the report of an executor with several workers.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Stop the workers and free what they hold; may be called twice."""


@dataclass(frozen=True)
class PartialAnswers:
    """The answers of one worker to a candidate that several workers answer. Plain data.

    Attributes:
        first: the first unit that it answered.
        end: the end of its units (exclusive).
        n_units: how many units the candidate has in all.
        answers: the answers to the requests of these units.
        seconds: the time that this took, with building the candidate.
        parts: what the seconds went into, as in `Outcome`.
    """

    first: int
    end: int
    n_units: int
    answers: Answers
    seconds: float
    parts: Mapping[str, float] = field(default_factory=dict)


class Worker(ABC):
    """Builds and scores candidates, one after the other.

    By default a candidate is one unit, which cannot be divided among workers.

    Attributes:
        device: what candidates run on, for example "cuda:0".
        log_lines: what the driver's log is to say about the worker's start, one sentence each.
    """

    device: str = "cpu"
    log_lines: tuple[str, ...] = ()

    @abstractmethod
    def run(self, job: Job) -> Outcome:
        """Build and score one candidate."""

    def run_units(self, job: Job, units: UnitRange) -> Outcome | PartialAnswers:
        """Build a candidate and answer its units in a range, some of which may be stolen in the meantime.

        Returns:
            What `run` would return, if all units were answered here or the candidate failed; else the partial answers.
        """
        return self.run(job)

    def finish(self, job: Job, answers: Sequence[Answers]) -> Outcome:
        """Score a candidate whose units were all answered, here or elsewhere.

        Args:
            job: whose candidate it is.
            answers: those of all its `PartialAnswers`, in any order.

        Raises:
            NotImplementedError: if the worker does not divide candidates.
        """
        raise NotImplementedError(f"{type(self).__name__} does not divide candidates, so there is nothing to finish")


class StopSignal:
    """How a search is asked to stop: politely (after the running candidate), at once, or at a deadline.

    The search asks for `draining` between candidates; workers ask for `now()` at every forward pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requests = 0
        self.takes_signals = False
        """Whether Ctrl-C makes requests here, so that it raises no `KeyboardInterrupt` before it has made one."""
        self.deadline: float | None = None
        """When the running candidate is dropped, on this signal's clock; None: never."""

    def request(self) -> int:
        """Ask the search to stop, at once from the second request on; return how many requests there were."""
        self._requests += 1
        return self._requests

    @property
    def draining(self) -> bool:
        """Whether no further candidate should start."""
        return self._requests > 0

    @property
    def stopping(self) -> bool:
        """Whether no further work should begin."""
        return self.draining or self.overdue

    @property
    def overdue(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and self._clock() >= self.deadline

    def now(self) -> bool:
        """Return whether the running candidate must stop at once."""
        return self._requests > 1 or self.overdue
