"""A job whose candidate several workers answer: which ranges of units they work on, and what is still missing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from evomerge.evaluation.engines.base import Answers
from evomerge.execution.base import PartialAnswers
from evomerge.record import Job


@dataclass(eq=False)
class PoolJob:
    """A job on its way through the pool.

    Attributes:
        reasons: why workers failed on it so far.
        partials: the partial answers that came.
        ranges: the work ranges that are queued or running.
        n_steal_requests: how many of its workers are being asked for units, and have not answered.
        undivided: whether one worker must do all of it.
    """

    job: Job
    reasons: list[str] = field(default_factory=list)
    partials: list[PartialAnswers] = field(default_factory=list)
    ranges: set[WorkRange] = field(default_factory=set)
    n_steal_requests: int = 0
    undivided: bool = False

    def missing(self) -> list[tuple[int, int]]:
        """Return the ranges of units that no partial answers cover; there must be some partial answers."""
        return uncovered([(one.first, one.end) for one in self.partials], self.partials[0].n_units)

    def add_range(self, first: int = 0, end: int | None = None) -> WorkRange:
        """Return a new work range; `end` None: to the last unit."""
        made = WorkRange(self, first, end)
        self.ranges.add(made)
        return made


@dataclass(eq=False)
class WorkRange:
    """What one worker is to do of a job.

    Attributes:
        first: the first of the units that it is to answer.
        end: the end of these units (exclusive), as far as it is known here; None: that of the candidate.
        answers: all partial answers of the job, which it is to score; None: it is to answer units.
        ticket: the number under which it was sent to a worker.
        asked_at: when that worker was last asked for some of its units.
        withdrawn: whether nobody wants its answers any more.
    """

    pool_job: PoolJob
    first: int = 0
    end: int | None = None
    answers: list[Answers] | None = None
    ticket: int = 0
    asked_at: float = -math.inf
    withdrawn: bool = False


def uncovered(ranges: Iterable[tuple[int, int]], n: int) -> list[tuple[int, int]]:
    """Return what ranges leave out of 0 … n; all ends are exclusive."""
    left, at = [], 0
    for first, end in sorted(ranges):
        if first > at:
            left.append((at, first))
        at = max(at, end)
    return [*left, (at, n)] if at < n else left
