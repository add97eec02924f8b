"""A job whose candidate several workers answer: which ranges of units they work on, and which units are missing."""

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
        partials: the partial answers that have arrived.
        ranges: the work ranges that are queued or running.
        n_steal_requests: how many of its workers were asked for units and have not answered.
        undivided: whether one worker must answer all units.
    """

    job: Job
    reasons: list[str] = field(default_factory=list)
    partials: list[PartialAnswers] = field(default_factory=list)
    ranges: set[WorkRange] = field(default_factory=set)
    n_steal_requests: int = 0
    undivided: bool = False

    def missing(self) -> list[tuple[int, int]]:
        """Return the ranges of units that no partial answers cover; at least one partial answer must have arrived."""
        return uncovered([(one.first, one.end) for one in self.partials], self.partials[0].n_units)

    def add_range(self, first: int = 0, end: int | None = None) -> WorkRange:
        """Return a new work range; `end` None: to the last unit."""
        made = WorkRange(self, first, end)
        self.ranges.add(made)
        return made


@dataclass(eq=False)
class WorkRange:
    """The part of a job that one worker is to do.

    Attributes:
        first: the first unit that the worker is to answer.
        end: the end of its units (exclusive), as far as the driver knows it; None: the end of the candidate.
        answers: all partial answers of the job, which the worker is to score; None: it is to answer units.
        ticket: the number under which the range was sent to the worker.
        asked_at: when the worker was last asked for some of its units.
        withdrawn: whether its answers are no longer wanted.
    """

    pool_job: PoolJob
    first: int = 0
    end: int | None = None
    answers: list[Answers] | None = None
    ticket: int = 0
    asked_at: float = -math.inf
    withdrawn: bool = False


def uncovered(ranges: Iterable[tuple[int, int]], n: int) -> list[tuple[int, int]]:
    """Return the ranges of 0 to `n` that the given ranges leave out; all ends are exclusive."""
    left, at = [], 0
    for first, end in sorted(ranges):
        if first > at:
            left.append((at, first))
        at = max(at, end)
    return [*left, (at, n)] if at < n else left
