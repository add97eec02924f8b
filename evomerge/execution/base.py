"""The contract of an executor: takes jobs, gives outcomes. The search knows nothing else of where candidates run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

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
        """Return plain data for `evomerge status`; see `evomerge.execution.crew.Crew.report`."""
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
