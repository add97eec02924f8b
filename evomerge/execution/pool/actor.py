"""The process of a worker: it makes its live models out of plain data, and runs one job after another."""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.errors import EvomergeError, Interrupted
from evomerge.evaluation.engines.base import Answers
from evomerge.evaluation.engines.units import Share
from evomerge.execution.base import Shares, StopSignal, Works
from evomerge.execution.pool.chunks import Part
from evomerge.recipe import Recipe
from evomerge.record import Job, Outcome, Split
from evomerge.system.memory import give_back


@dataclass(frozen=True)
class Hints:
    """What a worker is told of its surroundings.

    Attributes:
        neighbours: how many workers, with this one, share the machine's memory.
        per_device: how many share its GPU.
        halvings: how often the batch size is halved, because workers ran out of memory.
    """

    neighbours: int = 1
    per_device: int = 1
    halvings: int = 0


MakeWorker = Callable[[StopSignal, Hints], Works]
"""Makes what does the work, in the process of the worker. It is pickled, so it holds plain data; its result may say
what it runs on in an attribute `device`, and sentences for the driver's log in `told`."""

Answer = tuple[str, Any]
"""("ready", (device, what to log)), ("done", fields of an `Outcome`), ("part", a `Part`), ("stopped", None),
("refused", reason) or ("broken", reason)."""


class Halt(StopSignal):
    """Stops the running job when the driver says so.

    A request names its job by a number that rises, so one that comes too late stops nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.running = 0
        self.stopped = 0

    def now(self) -> bool:
        """Whether the running job must stop at once."""
        return self.running <= self.stopped


class RayWorker:
    """The actor. Jobs run one after another in one thread; questions about the process, stops and requests to
    give work away in another one.
    """

    def __init__(self, make: MakeWorker, hints: Hints, folder: str | None) -> None:
        if folder is not None and Path(folder).is_dir():
            os.chdir(folder)  # relative paths mean what they mean for the driver
        self._make = make
        self._hints = hints
        self._halt = Halt()
        self._works: Works | None = None
        self._shared: tuple[int, Share] | None = None  # ticket of the running job, and what it still answers
        self._pace: float | None = None  # seconds that a unit of the last job took

    def where(self) -> tuple[str, int]:
        """Return the name of the machine and the id of the process."""
        import ray

        return f"{platform.node()} ({ray.util.get_node_ip_address()})", os.getpid()

    def stop(self, ticket: int) -> None:
        """Stop that job, and those before it."""
        self._halt.stopped = max(self._halt.stopped, ticket)

    def open(self) -> Answer:
        """Make the worker."""
        try:
            self._works = self._make(self._halt, self._hints)
        except EvomergeError as error:
            return "refused", str(error)
        except Exception as error:
            return "broken", _in_a_line(error)
        return "ready", (str(getattr(self._works, "device", "cpu")), tuple(getattr(self._works, "told", ())))

    def run(self, ticket: int, job: Mapping[str, Any], first: int, end: int | None) -> Answer:
        """Run one job, or those of its units; see `Share`."""
        works = self._works
        assert works is not None, "the driver opens a worker before it sends jobs"
        if not isinstance(works, Shares):
            return self._answer(ticket, lambda: works.run(from_plain(job)))
        share = Share(first, end, pace=self._pace)
        self._shared = ticket, share
        try:
            return self._answer(ticket, lambda: works.run_part(from_plain(job), share))
        finally:
            self._shared, self._pace = None, share.pace

    def finish(self, ticket: int, job: Mapping[str, Any], answers: Sequence[Answers]) -> Answer:
        """Score a candidate that several workers were asked about."""
        works: Any = self._works
        assert isinstance(works, Shares), "only such workers answer in parts"
        return self._answer(ticket, lambda: works.finish(from_plain(job), answers))

    def give(self, ticket: int) -> tuple[int, int] | None:
        """Give units of the running job away; None where there are none to give, or it is another job."""
        shared = self._shared
        if shared is None or shared[0] != ticket:
            return None
        return shared[1].give()

    def _answer(self, ticket: int, run: Callable[[], Outcome | Part]) -> Answer:
        self._halt.running = ticket
        try:
            outcome = run()
        except Interrupted:
            return "stopped", None
        except Exception as error:
            return "broken", _in_a_line(error)
        finally:
            give_back()  # it may take a while until the next one, and other workers share the memory
        if isinstance(outcome, Part):
            return "part", outcome
        return "done", (outcome.state, outcome.scores, outcome.seconds, outcome.device, outcome.error, outcome.fault)


def _in_a_line(error: Exception) -> str:
    """Return what went wrong, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


def to_plain(job: Job) -> dict[str, Any]:
    """Return a job as data that can be pickled."""
    items = None if job.items is None else dict(job.items)
    return {"candidate": job.candidate, "recipe": job.recipe.to_data(), "split": str(job.split), "items": items}


def from_plain(data: Mapping[str, Any]) -> Job:
    """Read `to_plain` back."""
    return Job(data["candidate"], Recipe.from_data(data["recipe"]), Split(data["split"]), data["items"])
