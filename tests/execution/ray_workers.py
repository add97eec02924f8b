"""Workers without models, for tests of the pool: they score by the recipe's weight, and fail as they are told to.

Ray's processes import this module, so it stands on their path.
"""

import os
import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from evomerge.errors import CheckpointError, Interrupted
from evomerge.execution.base import StopSignal
from evomerge.execution.ray_actor import Hints
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Job, Outcome, Split, State

N_ITEMS = 5


def recipe(weight: float) -> Recipe:
    return Recipe("linear", (Parent("a", ModelSource("a")),), parameters={"weight": weight})


def job(number: int, split: Split = Split.SEARCH) -> Job:
    return Job(number, recipe(0.01 * (number % 100)), split)


def answer(job: Job, device: str = "cpu") -> Outcome:
    weight = float(job.recipe.parameters["weight"])  # type: ignore[arg-type]
    shift = {Split.SEARCH: 0.0, Split.VALIDATION: 0.05, Split.TEST: 0.1}[job.split]
    scores = tuple(ItemScore("t", i, {"acc": float(weight > i / N_ITEMS + shift)}) for i in range(N_ITEMS))
    return Outcome(job, State.COMPLETE, scores, 0.01, device)


@dataclass(frozen=True)
class Dummy:
    """Makes a worker.

    Attributes:
        faults: candidate to what happens: "kill", "hang", "bug", "invalid", "failed", "memory" or "cuda".
        times: how often it happens to each.
        seconds: what a job takes.
        folder: where it is noted how often something happened; shared by all processes.
        refuse: a message with which the worker refuses to start.
    """

    folder: str
    faults: dict[int, str] = field(default_factory=dict)
    times: int = 1
    seconds: float = 0.0
    refuse: str | None = None

    def __call__(self, stop: StopSignal, hints: Hints) -> "DummyWorker":
        if self.refuse is not None:
            raise CheckpointError(self.refuse)
        note(self.folder, f"batch{hints.halvings}")
        return DummyWorker(self, stop)


class DummyWorker:
    device = "cpu"

    def __init__(self, plan: Dummy, stop: StopSignal) -> None:
        self.plan, self.stop = plan, stop

    def run(self, job: Job) -> Outcome:
        note(self.plan.folder, f"ran{job.candidate}")
        fault = self.plan.faults.get(job.candidate)
        if fault is not None and note(self.plan.folder, f"fault{job.candidate}") <= self.plan.times:
            if fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "hang":
                time.sleep(1000)
            if fault == "bug":
                raise ZeroDivisionError("a bug in the worker")
            if fault == "invalid":
                return Outcome(job, State.INVALID, (), 0.01, "cpu", "it cannot be built")
            texts = {"failed": "it cannot be scored", "memory": "out of memory: 5 GiB", "cuda": "CUDA error: assert"}
            return Outcome(job, State.FAILED, (), 0.01, "cpu", texts[fault])
        end = time.monotonic() + self.plan.seconds
        while time.monotonic() < end:
            if self.stop.now():
                raise Interrupted("stop")
            time.sleep(0.01)
        return answer(job)


class Placed(Dummy):
    """Makes a worker whose answers say on which machine of the cluster they were found."""

    def __call__(self, stop: StopSignal, hints: Hints) -> "PlacedWorker":
        return PlacedWorker(self, stop)


class PlacedWorker(DummyWorker):
    def run(self, job: Job) -> Outcome:
        import ray

        outcome = super().run(job)
        where = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
        return replace(outcome, device=where)


def note(folder: str, what: str) -> int:
    """Note that something happened, and return how often it has."""
    with (Path(folder) / what).open("ab") as file:
        file.write(b".")
        return file.tell()


def noted(folder: Path, what: str) -> int:
    path = Path(folder) / what
    return path.stat().st_size if path.exists() else 0
