"""What a worker's process answers the driver: small frozen classes of plain data that can be pickled.

Two more of them stand elsewhere: `PartialAnswers` in `execution.base` and `StolenUnits` in `evaluation.engines.units`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from evomerge.errors import Fault
from evomerge.execution.base import PartialAnswers
from evomerge.record import ItemAnswer, ItemScore, State


@dataclass(frozen=True)
class WorkerReady:
    """The worker is made, and waits for jobs.

    Attributes:
        device: what the worker computes on.
        log_lines: what the log is to say about its start.
    """

    device: str
    log_lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkerRefused:
    """The worker cannot work on its machine, because of a mistake that the user can mend, such as a missing parent."""

    reason: str


@dataclass(frozen=True)
class WorkerBroken:
    """Something failed that should not fail, by a bug or in a device. The process cannot be trusted any more."""

    reason: str


@dataclass(frozen=True)
class JobCancelled:
    """The job was stopped before it was done."""


@dataclass(frozen=True)
class JobDone:
    """The outcome of a job: the fields of an `Outcome` except the job itself, which the driver knows."""

    state: State
    scores: tuple[ItemScore, ...]
    seconds: float
    device: str
    error: str | None = None
    fault: Fault | None = None
    answers: tuple[ItemAnswer, ...] = ()
    build_seconds: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)


StartAnswer: TypeAlias = WorkerReady | WorkerRefused | WorkerBroken
JobAnswer: TypeAlias = JobDone | PartialAnswers | JobCancelled | WorkerBroken
