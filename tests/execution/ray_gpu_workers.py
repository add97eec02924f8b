"""Workers that tell which GPUs Ray gave them; Ray counts GPUs that are not there, too. Ray's processes import this."""

import os
from dataclasses import dataclass
from typing import Any

from ray_workers import answer

from evomerge.assembly.ray_workers import _certain_sharers
from evomerge.config.reader import from_data
from evomerge.execution.base import StopSignal
from evomerge.execution.pool.actor import Hints
from evomerge.record import Job, Outcome


@dataclass(frozen=True)
class Telling:
    """Makes a worker whose device is what the process may see, and which tells who shares it."""

    data: dict[str, Any]

    def __call__(self, stop: StopSignal, hints: Hints) -> "TellingWorker":
        execution = from_data(self.data).execution
        certain = _certain_sharers(execution, on_cpu=False), _certain_sharers(execution, on_cpu=True)
        sentence = f"{hints.per_device} of {hints.neighbours}; certain {certain}"
        return TellingWorker(os.environ.get("CUDA_VISIBLE_DEVICES", ""), (sentence,))


class TellingWorker:
    def __init__(self, device: str, told: tuple[str, ...]) -> None:
        self.device, self.told = device, told

    def run(self, job: Job) -> Outcome:
        return answer(job, self.device)
