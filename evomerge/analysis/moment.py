"""A search at one moment, as plain data: what a live view and plain lines show of it, here or from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.record import Score, Split

BEST_PARENT, AVERAGE = "best parent", "average"


@dataclass(frozen=True)
class Limit:
    """One limit of the budget.

    Attributes:
        key: "candidates", "items" or "seconds".
        spent: how much of it is spent.
        most: the limit.
    """

    key: str
    spent: float
    most: float


@dataclass(frozen=True)
class PhaseDone:
    """A part of a search: its baselines, the search itself, validation, test.

    Attributes:
        name: as in `Listener.phase`.
        done: how many models were scored in it.
        total: of how many; None: not known.
    """

    name: str
    done: int
    total: int | None


@dataclass(frozen=True)
class Against:
    """The best merge against one baseline.

    Attributes:
        role: `BEST_PARENT` or `AVERAGE`.
        name: the baseline's.
        score: its score on the split of the best merge's.
        gain: the paired difference on the items that both answered, as `evomerge.system.figures.gain` takes it, with
            its `n`; None: no best merge yet, or no such item.
    """

    role: str
    name: str
    score: Score | None
    gain: Mapping[str, Any] | None


@dataclass(frozen=True)
class TaskGain:
    """The best merge in one task.

    Attributes:
        name: the task's.
        skill: as `evomerge.analysis.skills.skill` returns it; None: no best merge yet.
        average: the mean of the plain average on the items of its split; None: not scored.
    """

    name: str
    skill: Mapping[str, Any] | None
    average: float | None


@dataclass(frozen=True)
class Goal:
    """One of several objectives.

    Attributes:
        name: the objective's; so is `direction`.
        best: the best value of a candidate of the front, in its own direction; None: none was scored.
        parent: the best value of a parent.
    """

    name: str
    direction: str
    best: float | None
    parent: float | None


@dataclass(frozen=True)
class Works:
    """What one worker does.

    Attributes:
        name: "worker 0", or "here".
        doing: a word: "busy", "idle", "opening", ….
        candidate: the number or name of what it works on.
        seconds: for how long.
        device: what it computes on.
        memory: the bytes that its process has; None: it is elsewhere.
        done: how many jobs it has answered; None: not counted.
    """

    name: str
    doing: str
    candidate: str | None
    seconds: float
    device: str | None
    memory: int | None
    done: int | None = None


@dataclass(frozen=True)
class Moment:
    """A search at one moment.

    Attributes:
        name: of the configuration.
        path: the run's folder.
        state: "running", "interrupted", "complete", "failed".
        doubt: what cannot be told of it from here, in a sentence; None: nothing.
        error: why the search failed.
        at: when that was, in seconds since 1970.
        written: when the run was written last.
        phase: the part that goes on; "" before the first.
        parts: all parts in order.
        limits: the limits of the budget.
        candidates: proposals recorded; failed, repeated: how many of these failed, or had the recipe of another one.
        per_minute: candidates a minute; None: not known.
        seconds_left: of the search itself; None: not known, or not in it.
        best: the name of the best merge so far, of the chosen one after the end; None: there is none.
        fitness: the largest fitness of a candidate; None: none was scored.
        split: the items on which it is shown: search items while the search goes on.
        score: its score on them.
        limited: whether it breaks a limit.
        against: the best parent and the average.
        tasks: task by task, where there are several.
        goals: the objectives, where there are several.
        front: how many merges no other one dominates.
        hypervolume: what they dominate beyond the worst baseline in each objective; None: one objective.
        course: the best score so far, candidate by candidate, thinned out.
        workers: a line for each.
        lost: how many workers were replaced or lost.
        worst: whether scores are those of the worst task relative to its best parent.
    """

    name: str
    path: str
    state: str
    at: float
    doubt: str | None = None
    error: str | None = None
    written: float | None = None
    phase: str = ""
    parts: tuple[PhaseDone, ...] = ()
    limits: tuple[Limit, ...] = ()
    candidates: int = 0
    failed: int = 0
    repeated: int = 0
    per_minute: float | None = None
    seconds_left: float | None = None
    best: str | None = None
    fitness: float | None = None
    split: Split = Split.SEARCH
    score: Score | None = None
    limited: bool = False
    against: tuple[Against, ...] = ()
    tasks: tuple[TaskGain, ...] = ()
    goals: tuple[Goal, ...] = ()
    front: int = 0
    hypervolume: float | None = None
    course: tuple[float, ...] = ()
    workers: tuple[Works, ...] = ()
    lost: int = 0
    worst: bool = False

    @property
    def ended(self) -> bool:
        """Whether no process goes on with it."""
        return self.state != "running"

    @property
    def part(self) -> PhaseDone | None:
        """How far the part that goes on has come; None: it is none of `parts`."""
        return next((one for one in self.parts if one.name == self.phase.partition(":")[0]), None)

    def over(self, role: str) -> Against | None:
        """Return the best merge against the baseline of a role; None: none was scored."""
        return next((one for one in self.against if one.role == role), None)
