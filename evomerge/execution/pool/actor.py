"""The process of a worker: it makes the worker from plain data, and runs one job after another."""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from evomerge.errors import EvomergeError, Interrupted
from evomerge.evaluation.engines.base import Answers
from evomerge.evaluation.engines.units import StolenUnits, UnitRange
from evomerge.execution.base import PartialAnswers, StopSignal, Worker
from evomerge.execution.pool.answers import (
    JobAnswer,
    JobCancelled,
    JobDone,
    StartAnswer,
    WorkerBroken,
    WorkerReady,
    WorkerRefused,
)
from evomerge.recipe import Recipe
from evomerge.record import Job, Outcome, Split
from evomerge.system.memory import give_back
from evomerge.system.text import error_text


@dataclass(frozen=True)
class WorkerContext:
    """What a worker needs to know of its surroundings.

    Attributes:
        neighbours: how many workers share the machine's memory, this one included.
        per_device: how many workers share its GPU, this one included.
        halvings: how often the batch size is halved, because workers ran out of memory.
    """

    neighbours: int = 1
    per_device: int = 1
    halvings: int = 0


MakeWorker = Callable[[StopSignal, WorkerContext], Worker]
"""Makes the worker, in the worker's own process. It is pickled on the way there, so it holds plain data."""


class CancelToken(StopSignal):
    """Stops the running job when the driver says so.

    The driver names the job by its ticket, a rising number, so a request that comes too late stops no later job.

    Attributes:
        running: ticket of the running job.
        cancelled: the highest ticket of the jobs that are to stop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.running = 0
        self.cancelled = 0

    def now(self) -> bool:
        """Return whether the running job must stop at once."""
        return self.running <= self.cancelled


class RayWorker:
    """The actor, which runs jobs one after another in one thread.

    Another thread answers questions about the process, cancellations and steal requests.
    """

    def __init__(
        self,
        make: MakeWorker,
        context: WorkerContext,
        folder: str | None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        os.environ.update(variables or {})  # before anything that reads them is imported
        if folder is not None and Path(folder).is_dir():
            os.chdir(folder)  # relative paths mean what they mean for the driver
        self._make = make
        self._context = context
        self._cancel_token = CancelToken()
        self._worker: Worker | None = None
        self._running: tuple[int, UnitRange] | None = None  # ticket of the running job, and the units that it answers
        self._pace: float | None = None  # seconds that a unit of the last job took

    def where(self) -> tuple[str, int]:
        """Return the name of the machine and the id of the process."""
        import ray

        return f"{platform.node()} ({ray.util.get_node_ip_address()})", os.getpid()

    def open(self) -> StartAnswer:
        """Make the worker."""
        try:
            worker = self._make(self._cancel_token, self._context)
        except EvomergeError as error:
            return WorkerRefused(error_text(error))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # what is imported here may call sys.exit
            return WorkerBroken(_in_a_line(error))
        self._worker = worker
        return WorkerReady(worker.device, worker.log_lines)

    def run(self, ticket: int, job: Mapping[str, Any], first: int, end: int | None) -> JobAnswer:
        """Run a job, or its units from `first` to `end` (exclusive); `end` None: to the last unit."""
        worker, units = self._opened(), UnitRange(first, end, pace=self._pace)
        self._running = ticket, units
        try:
            return self._answer(ticket, lambda: worker.run_units(from_plain(job), units))
        finally:
            self._running, self._pace = None, units.pace

    def finish(self, ticket: int, job: Mapping[str, Any], answers: Sequence[Answers]) -> JobAnswer:
        """Score a candidate whose units several workers answered."""
        worker = self._opened()
        return self._answer(ticket, lambda: worker.finish(from_plain(job), answers))

    def cancel(self, ticket: int) -> None:
        """Stop the job with this ticket, and all before it."""
        self._cancel_token.cancelled = max(self._cancel_token.cancelled, ticket)

    def steal(self, ticket: int) -> StolenUnits | None:
        """Give up units of the running job to a thief; None if there are none to give, or another job is running."""
        running = self._running
        if running is None or running[0] != ticket:
            return None
        return running[1].steal()

    def _opened(self) -> Worker:
        assert self._worker is not None, "the driver opens a worker before it sends jobs"
        return self._worker

    def _answer(self, ticket: int, run: Callable[[], Outcome | PartialAnswers]) -> JobAnswer:
        self._cancel_token.running = ticket
        try:
            found = run()
        except Interrupted:
            return JobCancelled()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return WorkerBroken(_in_a_line(error))
        finally:
            give_back()  # the next job may take a while to come, and other workers share the memory
        if isinstance(found, PartialAnswers):
            return found
        return JobDone(**{one.name: getattr(found, one.name) for one in fields(JobDone)})


def _in_a_line(error: BaseException) -> str:
    """Return on one line what went wrong, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return " ".join(error_text(error, name=True).split()) + where


def to_plain(job: Job) -> dict[str, Any]:
    """Return a job as data that can be pickled."""
    items = None if job.items is None else dict(job.items)
    return {"candidate": job.candidate, "recipe": job.recipe.to_data(), "split": str(job.split), "items": items}


def from_plain(data: Mapping[str, Any]) -> Job:
    """Return the job that `to_plain` wrote."""
    return Job(data["candidate"], Recipe.from_data(data["recipe"]), Split(data["split"]), data["items"])
