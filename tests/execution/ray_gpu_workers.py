"""Workers that tell which GPUs Ray gave them; Ray counts GPUs that are not there, too. Ray's processes import this."""

import os
from dataclasses import dataclass
from typing import Any

from ray_workers import answer

from evomerge.assembly.ray_workers import _certain_sharers
from evomerge.config.reader import from_data
from evomerge.execution.base import StopSignal, Worker
from evomerge.execution.pool.actor import WorkerContext
from evomerge.record import Job, Outcome


@dataclass(frozen=True)
class Telling:
    """Makes a worker whose device is what the process may see, and which tells who shares it."""

    data: dict[str, Any]

    def __call__(self, stop: StopSignal, context: WorkerContext) -> "TellingWorker":
        execution = from_data(self.data).execution
        certain = _certain_sharers(execution, on_cpu=False), _certain_sharers(execution, on_cpu=True)
        sentence = f"{context.per_device} of {context.neighbours}; certain {certain}"
        return TellingWorker(os.environ.get("CUDA_VISIBLE_DEVICES", ""), (sentence,))


class TellingWorker(Worker):
    def __init__(self, device: str, log_lines: tuple[str, ...]) -> None:
        self.device, self.log_lines = device, log_lines

    def run(self, job: Job) -> Outcome:
        return answer(job, self.device)
