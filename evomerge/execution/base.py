"""The contracts of executors, which take jobs and give outcomes, and of the workers that they have.

The search knows nothing else of where candidates run. Nothing here needs a model library.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from evomerge.evaluation.engines.base import Answers
from evomerge.evaluation.engines.units import Share
from evomerge.execution.pool.chunks import Part
from evomerge.record import Job, Outcome


class Executor(Protocol):
    """Builds and scores candidates somewhere.

    What callers may assume: each submitted job comes back from `collect` exactly once. A candidate that cannot be
    built or scored comes back as INVALID or FAILED with the reason; an exception means that the executor itself is
    broken, and ends the search.
    """

    @property
    def capacity(self) -> int:
        """How many jobs should be outstanding to keep every worker busy; it may change."""
        ...

    def submit(self, job: Job) -> None:
        """Queue a job."""
        ...

    def collect(self) -> Outcome:
        """Wait for an outstanding job and return what came of it.

        Raises:
            Interrupted: if the user stopped the run, or the deadline passed, before one was done.
        """
        ...

    def close(self) -> None:
        """Stop the workers and free what they hold; may be called twice."""
        ...


@runtime_checkable
class Gathers(Protocol):
    """What an executor with several workers does besides: it gives all that is done at once."""

    def more(self) -> list[Outcome]:
        """Return further outcomes that are there already; they count as collected."""
        ...


@runtime_checkable
class Reports(Protocol):
    """What an executor with several workers does besides: it says how they are."""

    def report(self) -> dict[str, Any]:
        """Return plain data for `evomerge status`; see `evomerge.execution.pool.workers.Crew.report`."""
        ...


class Works(Protocol):
    """What an executor needs of a worker."""

    def run(self, job: Job) -> Outcome:
        """Build and score one candidate."""
        ...


@runtime_checkable
class Shares(Protocol):
    """What a worker does besides that can answer a part of a candidate's questions."""

    def run_part(self, job: Job, share: Share) -> Outcome | Part:
        """Build a candidate and put the questions to it that are in a share, some of which may be given away meanwhile.

        Returns:
            What `run` would where it answered all, or failed; else the part.
        """
        ...

    def finish(self, job: Job, answers: Sequence[Answers]) -> Outcome:
        """Score a candidate by all of its answers."""
        ...


class StopSignal:
    """How the outside asks a search to stop: politely (finish the running candidate), at once, or at a deadline.

    The search looks at `draining` between candidates; workers look at `now()` at every forward pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requests = 0
        self.deadline: float | None = None
        """When the running candidate is dropped, on this signal's clock; None: never."""

    def request(self) -> int:
        """Ask to stop; a second request means at once. Returns how many requests there were."""
        self._requests += 1
        return self._requests

    @property
    def draining(self) -> bool:
        """Whether no further candidate should start."""
        return self._requests > 0

    @property
    def overdue(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and self._clock() >= self.deadline

    def now(self) -> bool:
        """Whether the running candidate must stop at once."""
        return self._requests > 1 or self.overdue
