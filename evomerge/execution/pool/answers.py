"""What a worker's process answers the driver: small frozen classes of plain data that can be pickled.

`PartialAnswers` of `execution.base` and `StolenUnits` of `evaluation.engines.units` are two more of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from evomerge.errors import Fault
from evomerge.execution.base import PartialAnswers
from evomerge.record import ItemScore, State


@dataclass(frozen=True)
class WorkerReady:
    """The worker is made, and waits for jobs.

    Attributes:
        device: what it computes on.
        log_lines: what the log is to say of its start.
    """

    device: str
    log_lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkerRefused:
    """The worker cannot work where it is, by a mistake that the user can mend: a missing parent, for example."""

    reason: str


@dataclass(frozen=True)
class WorkerBroken:
    """Something failed that should not: a bug, or a device. The process is not to be trusted any more."""

    reason: str


@dataclass(frozen=True)
class JobCancelled:
    """The job was stopped before it was done."""


@dataclass(frozen=True)
class JobDone:
    """What came of a job: the fields of an `Outcome`, without the job, which the driver knows."""

    state: State
    scores: tuple[ItemScore, ...]
    seconds: float
    device: str
    error: str | None = None
    fault: Fault | None = None


StartAnswer: TypeAlias = WorkerReady | WorkerRefused | WorkerBroken
JobAnswer: TypeAlias = JobDone | PartialAnswers | JobCancelled | WorkerBroken
