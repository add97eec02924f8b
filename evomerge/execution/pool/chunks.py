"""A candidate whose questions several workers answer: its parts, what is missing, and when it is whole."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from evomerge.evaluation.engines.base import Answers
from evomerge.record import Job


@dataclass(frozen=True)
class Part:
    """What a worker answered of a candidate.

    Attributes:
        first: of the units that it answered.
        end: the unit behind the last one.
        of: how many units the candidate has.
        seconds: that it took, building included.
    """

    first: int
    end: int
    of: int
    answers: Answers
    seconds: float


@dataclass(eq=False)
class Task:
    """A job on its way through the pool.

    Attributes:
        reasons: why workers failed on it, so far.
        parts: what was answered.
        pieces: those that are queued or running.
        asked: how many workers are being asked to give a part of it away.
        alone: whether it is not to be divided (again).
    """

    job: Job
    reasons: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    pieces: set[Piece] = field(default_factory=set)
    asked: int = 0
    alone: bool = False

    def missing(self) -> list[tuple[int, int]]:
        """Return the ranges of units that no part covers; one part at least must be there."""
        return uncovered([(part.first, part.end) for part in self.parts], self.parts[0].of)

    def piece(self, first: int = 0, end: int | None = None) -> Piece:
        """Return a new piece; `end` None: to the last unit."""
        made = Piece(self, first, end)
        self.pieces.add(made)
        return made


@dataclass(eq=False)
class Piece:
    """What one worker is to do of a task.

    Attributes:
        first: of its units.
        end: the unit behind the last one, as far as is known here; None: to the last.
        answers: all that were given, to be made into scores: then nothing is asked any more.
        ticket: number under which a worker was sent it.
        asked_at: when that worker was asked last to give some of it away.
        withdrawn: whether nobody wants its answers any more.
    """

    task: Task
    first: int = 0
    end: int | None = None
    answers: list[Answers] | None = None
    ticket: int = 0
    asked_at: float = -math.inf
    withdrawn: bool = False


def uncovered(ranges: Iterable[tuple[int, int]], n: int) -> list[tuple[int, int]]:
    """Return what ranges of 0 … n (first, and the one behind the last) leave out."""
    left, at = [], 0
    for first, end in sorted(ranges):
        if first > at:
            left.append((at, first))
        at = max(at, end)
    return [*left, (at, n)] if at < n else left
