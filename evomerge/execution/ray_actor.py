"""The process of a worker: it makes its live models out of plain data, and runs one job after another."""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.errors import EvomergeError, Interrupted
from evomerge.execution.base import StopSignal
from evomerge.execution.worker import Works
from evomerge.memory import give_back
from evomerge.recipe import Recipe
from evomerge.record import Job, Split


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
what it runs on in an attribute `device`."""

Answer = tuple[str, Any]
"""("ready", device), ("done", parts of an `Outcome`), ("stopped", None), ("refused", reason) or ("broken", reason)."""


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
    """The actor. Jobs run one after another in one thread; questions about the process, and stops, in another one."""

    def __init__(self, make: MakeWorker, hints: Hints, folder: str | None) -> None:
        if folder is not None and Path(folder).is_dir():
            os.chdir(folder)  # relative paths mean what they mean for the driver
        self._make = make
        self._hints = hints
        self._halt = Halt()
        self._works: Works | None = None

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
        return "ready", str(getattr(self._works, "device", "cpu"))

    def run(self, ticket: int, job: Mapping[str, Any]) -> Answer:
        """Run one job."""
        assert self._works is not None, "the driver opens a worker before it sends jobs"
        self._halt.running = ticket
        try:
            outcome = self._works.run(from_plain(job))
        except Interrupted:
            return "stopped", None
        except Exception as error:
            return "broken", _in_a_line(error)
        finally:
            give_back()  # it may take a while until the next one, and other workers share the memory
        return "done", (outcome.state, outcome.scores, outcome.seconds, outcome.device, outcome.error)


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
