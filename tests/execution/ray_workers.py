"""Workers without models, for tests of the pool: they score by the recipe's weight, and fail as they are told to.

Ray's processes import this module, so it stands on their path.
"""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from evomerge.errors import CheckpointError, Fault, Interrupted
from evomerge.evaluation.engines.base import Answers
from evomerge.evaluation.engines.units import UnitRange
from evomerge.execution.base import PartialAnswers, StopSignal, Worker
from evomerge.execution.pool.actor import WorkerContext
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemAnswer, ItemScore, Job, Outcome, Split, State

N_ITEMS = 5


def recipe(weight: float) -> Recipe:
    return Recipe("linear", (Parent("a", ModelSource("a")),), parameters={"weight": weight})


def job(number: int, split: Split = Split.SEARCH) -> Job:
    return Job(number, recipe(0.01 * (number % 100)), split)


def answer(job: Job, device: str = "cpu") -> Outcome:
    weight = float(job.recipe.parameters["weight"])  # type: ignore[arg-type]
    shift = {Split.SEARCH: 0.0, Split.VALIDATION: 0.05, Split.TEST: 0.1}[job.split]
    scores = tuple(ItemScore("t", i, {"acc": float(weight > i / N_ITEMS + shift)}) for i in range(N_ITEMS))
    texts = tuple(ItemAnswer("t", i, [f"{weight} to {i}"], {"none": [f"{weight}"]}) for i in range(N_ITEMS))
    return Outcome(job, State.COMPLETE, scores, 0.01, device, answers=texts)


@dataclass(frozen=True)
class Dummy:
    """Makes a worker.

    Attributes:
        faults: candidate to what happens: "kill", "hang", "bug", "invalid", "failed", "memory" or "cuda".
        times: how often it happens to each.
        forever: candidates to which it happens each time.
        seconds: what a job takes.
        folder: where it is noted how often something happened; shared by all processes.
        refuse: a message with which the worker refuses to start.
        units: that each candidate has, which workers may steal from each other; 0: it cannot be divided. Each takes
            `seconds`. Faults then happen in the last of them.
    """

    folder: str
    faults: dict[int, str] = field(default_factory=dict)
    times: int = 1
    forever: tuple[int, ...] = ()
    seconds: float = 0.0
    refuse: str | None = None
    units: int = 0

    def __call__(self, stop: StopSignal, context: WorkerContext) -> "DummyWorker":
        if self.refuse is not None:
            raise CheckpointError(self.refuse)
        note(self.folder, f"batch{context.halvings}")
        return SharingWorker(self, stop) if self.units else DummyWorker(self, stop)


class DummyWorker(Worker):
    device = "cpu"

    def __init__(self, plan: Dummy, stop: StopSignal) -> None:
        self.plan, self.stop = plan, stop

    def run(self, job: Job) -> Outcome:
        note(self.plan.folder, f"ran{job.candidate}")
        failed = self.fault(job)
        if failed is not None:
            return failed
        self.work(self.plan.seconds)
        return answer(job)

    def fault(self, job: Job) -> Outcome | None:
        """Do what the plan says of a candidate."""
        fault = self.plan.faults.get(job.candidate)
        if fault is None:
            return None
        if note(self.plan.folder, f"fault{job.candidate}") > self.plan.times and job.candidate not in self.plan.forever:
            return None
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            time.sleep(1000)
        if fault == "bug":
            raise ZeroDivisionError("a bug in the worker")
        if fault == "invalid":
            return Outcome(job, State.INVALID, (), 0.01, "cpu", "it cannot be built")
        texts = {"failed": "it cannot be scored", "memory": "out of memory: 5 GiB", "cuda": "CUDA error: assert"}
        faults = {"failed": None, "memory": Fault.MEMORY, "cuda": Fault.DEVICE}
        return Outcome(job, State.FAILED, (), 0.01, "cpu", texts[fault], faults[fault])

    def work(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.stop.now():
                raise Interrupted("stop")
            time.sleep(0.01)


class SharingWorker(DummyWorker):
    """Asks its candidates one unit after the other; what a unit answers says which candidate and unit it was."""

    def run_units(self, job: Job, units: UnitRange) -> Outcome | PartialAnswers:
        n = self.plan.units
        units.open(n)
        note(self.plan.folder, f"ran{job.candidate}")
        answers: dict[int, float] = {}
        for unit in range(n):
            first, last = units.take(unit, unit + 1)
            if first == last:
                continue
            failed = self.fault(job) if unit == n - 1 else None
            if failed is not None:
                return failed
            self.work(self.plan.seconds)
            note(self.plan.folder, f"asked{job.candidate}.{unit}")
            answers[unit] = job.candidate + unit / n
        if units.whole:
            return self.finish(job, [[answers]])
        return PartialAnswers(units.first, units.end, n, [answers], 0.25, {"decode": 0.25 * len(answers)})

    def finish(self, job: Job, answers: Sequence[Answers]) -> Outcome:
        together = {unit: value for (some,) in answers for unit, value in some.items()}
        assert together == {unit: job.candidate + unit / self.plan.units for unit in range(self.plan.units)}
        return replace(answer(job), parts={"decode": 100.0, "scoring": 1.0})


class Placed(Dummy):
    """Makes a worker whose answers say on which machine of the cluster they were found."""

    def __call__(self, stop: StopSignal, context: WorkerContext) -> "PlacedWorker":
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
