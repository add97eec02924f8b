"""What happened to a candidate: its state, its item scores, its result, and how results compare."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from evomerge.errors import Fault
from evomerge.recipe import Recipe

CONSENSUS = "consensus"
"""Name of the candidate that is the mean of the best ones."""


INFEASIBLE = 1e9
"""Where results become one number, each result that breaks a limit lies below minus this number. It is large beside any
mean of a sensible metric, and small enough that violations still differ in the seventh digit after the point."""


class State(StrEnum):
    """Where a candidate stands."""

    RUNNING = "running"
    COMPLETE = "complete"
    INVALID = "invalid"  # the recipe cannot be built (a method refuses its parameters)
    FAILED = "failed"  # it was built, but could not be scored


CAUTIONS = (
    "lost_skill",  # a skill of a parent that the merge has lost
    "limits",  # a limit that the merge breaks
    "degenerate",  # answers that loop, are empty, or in another script than the parents'
    "cut_answers",  # answers that the limit of tokens or the context has cut, or prompts that were cut
    "parent_answers",  # a parent whose answers were mostly cut or empty, so that it may be better than its score
    "ancestry",  # parents that were not fine-tuned from the base, or hardly differ
    "behind",  # not ahead of the best parent
    "unscored",  # a model that could not be scored
    "noise",  # a difference that may be luck
    "public_items",  # searched on a public test set
    "unsafe_code",  # tasks may run code that models write
    "repeated_items",
    "order",  # of the finalists
    "flattering",  # the best of many noisy scores
    "settings",  # what belongs to the models besides their weights, and keys that have no effect
)
"""The kinds of cautions, the gravest first; the words are stable, and more may come."""


@dataclass(frozen=True)
class Caution:
    """Something to bear in mind about a search or its result.

    Attributes:
        kind: one of `CAUTIONS`.
        text: a sentence, or several, without a full stop at the end.
    """

    kind: str
    text: str

    @property
    def rank(self) -> int:
        """Its place among the kinds; 0 is the gravest."""
        return CAUTIONS.index(self.kind) if self.kind in CAUTIONS else len(CAUTIONS)

    def to_data(self) -> dict[str, str]:
        """Return `{"kind", "text"}`."""
        return {"kind": self.kind, "text": self.text}


class Split(StrEnum):
    """Which of the three fixed parts of a task's items; test items never reach the search."""

    SEARCH = "search"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class ItemScore:
    """The scores of one model on one item.

    Attributes:
        task: the name of the task in the configuration.
        item: index of the item in the task's documents (of the task that the split draws from).
        metrics: metric name to score; larger or smaller is better as the task says. Names that begin with an
            underscore are notes for the objective, whose mean says nothing.
    """

    task: str
    item: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class ItemAnswer:
    """What one model answered to one item; JSON data throughout, whose numbers need not be finite.

    Attributes:
        task: as in `ItemScore`; so is `item`.
        responses: for each request of the item, in lm-eval's order: a text, `[log-probability in nats, is greedy]`, or
            a log-probability.
        filtered: filter name to what it made of each response.
        results: filter name to what the task's own scoring said: metric to value, as lm-eval logs it.
    """

    task: str
    item: int
    responses: Sequence[Any]
    filtered: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class ItemPrompt:
    """What one item asks; JSON data throughout.

    Attributes:
        task: as in `ItemScore`; so is `item`.
        requests: for each request its arguments: the prompt, then the continuation whose probability is asked for, or
            the settings by which a text is generated.
        target: the right answer, as lm-eval logs it: a text, or the number of an option; None: the task says none.
        document: the item's own fields.
        repeats: how often lm-eval repeats each response.
        hashes: lm-eval's hashes of document, prompt and target, where a long text of the item was cut; else None, since
            they follow from it.
    """

    task: str
    item: int
    requests: Sequence[Sequence[Any]]
    target: Any = None
    document: Any = None
    repeats: int = 1
    hashes: Sequence[str] | None = None


@dataclass(frozen=True)
class Score:
    """A mean over items with its 95 % confidence interval."""

    mean: float
    low: float
    high: float
    n: int

    def to_data(self) -> dict[str, Any]:
        """Return `{"mean", "low", "high", "n"}`."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True)
class EarlyEstimate:
    """What a model's score on all items was taken for after it had answered some of them.

    Attributes:
        n: how many items it had answered.
        mean: the estimated score, without what the recipe adds, as in a `Score`.
        error: its standard error, of the items that were not asked alone.
    """

    n: int
    mean: float
    error: float


@dataclass(frozen=True)
class Objective:
    """One number that a search improves.

    Attributes:
        direction: "maximize" or "minimize", of what the user measures; in a `Result` larger is always better.
        weight: its weight where several objectives become one number; the weights sum to 1.
    """

    name: str
    direction: str
    weight: float = 1.0

    def to_data(self) -> dict[str, Any]:
        """Return `{"name", "direction", "weight"}`."""
        return {"name": self.name, "direction": self.direction, "weight": self.weight}


@dataclass(frozen=True)
class Result:
    """What a strategy is told of a candidate that was scored.

    Attributes:
        objectives: `(n_objectives,)`, larger is better, in the order of the search's objectives.
        violation: by how much the candidate exceeds its limits: a sum in which each excess is in units of its limit;
            0: the candidate is feasible.
        measures: name to number, for whatever else describes the candidate: the mean of each term, in its own unit and
            direction, and numbers of the recipe itself, such as its layers.
    """

    objectives: tuple[float, ...]
    violation: float = 0.0
    measures: Mapping[str, float] = field(default_factory=dict)

    def scalar(self, weights: Sequence[float]) -> float:
        """Return the weighted sum of the objectives, or for an infeasible result a number below all feasible ones.

        Two feasible results compare by their sum, two infeasible ones by their violation: Deb's rules (2000, Comput.
        Methods Appl. Mech. Eng. 186:311). The size of the step between the two kinds has no meaning, so the number is
        for optimizers that only compare.

        Args:
            weights: `(n_objectives,)`.
        """
        if self.violation > 0.0:
            return -INFEASIBLE - self.violation
        return math.fsum(w * value for w, value in zip(weights, self.objectives, strict=True))

    def dominates(self, other: Result) -> bool:
        """Return whether this result is better by constraint domination (Deb et al. 2002, IEEE TEVC 6:182, def. 1).

        A smaller violation wins. Between two results with equal violations (two feasible ones, say), the one wins that
        is at least as good in every objective and better in one.
        """
        if self.violation != other.violation:
            return self.violation < other.violation
        pairs = list(zip(self.objectives, other.objectives, strict=True))
        return all(mine >= theirs for mine, theirs in pairs) and any(mine > theirs for mine, theirs in pairs)


@dataclass(frozen=True)
class Job:
    """Work for a worker: build this recipe and score it on one split.

    Attributes:
        candidate: the number under which the outcome is recorded.
        items: task name to item indices; None: all items of the split.
    """

    candidate: int
    recipe: Recipe
    split: Split
    items: Mapping[str, tuple[int, ...]] | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        state: COMPLETE, INVALID or FAILED.
        scores: one per task and item, in the order of the split; empty unless COMPLETE.
        seconds: wall time of building and scoring.
        device: where it ran, for example "cpu" or "cuda:0".
        error: the reason, where the state is not COMPLETE.
        fault: what failed, if it was the worker's memory or device; None: the candidate failed itself, or nothing did.
        answers: what was answered to each of the scored items; empty where the worker does not tell.
        build_seconds: the part of the seconds that building took; 0 where several workers shared the job.
        parts: what the seconds went into, as far as the worker tells: name of a part to seconds, over all workers that
            shared the job; see `evomerge.execution.worker.PARTS`.
    """

    job: Job
    state: State
    scores: tuple[ItemScore, ...]
    seconds: float
    device: str
    error: str | None = None
    fault: Fault | None = None
    answers: tuple[ItemAnswer, ...] = ()
    build_seconds: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One candidate as the run remembers it.

    Attributes:
        number: its id: 0 is the first proposal. Baselines have negative numbers.
        name: "candidate 17", or the baseline's name ("math", "average").
        genome: gene values in the order of `evomerge space`; None for baselines.
        fitness: the result as one number (`Result.scalar` with the search's weights), by which records are ordered;
            None where the candidate failed.
        scores: split name to the score (the weighted sum of the objectives' metrics), for each split that was scored.
        same_as: number of the earlier candidate with the same recipe, whose scores were taken over.
        result: on the search items; None where the candidate failed.
    """

    number: int
    name: str
    state: State
    recipe: Recipe
    genome: tuple[float, ...] | None = None
    fitness: float | None = None
    scores: Mapping[Split, Score] | None = None
    seconds: float = 0.0
    device: str = ""
    error: str | None = None
    same_as: int | None = None
    result: Result | None = None

    @property
    def is_consensus(self) -> bool:
        """Whether this is the mean of the best candidates rather than a proposal of the optimizer."""
        return self.name == CONSENSUS and not self.is_baseline

    @property
    def is_baseline(self) -> bool:
        """Whether this is a parent or the plain average rather than a proposal of the optimizer."""
        return self.number < 0

    def to_data(self) -> dict[str, Any]:
        """Return the line that `evomerge records` prints."""
        return {
            "id": self.number,
            "name": self.name,
            "state": str(self.state),
            "recipe_hash": self.recipe.content_hash,
            "genome": None if self.genome is None else list(self.genome),
            "fitness": self.fitness,
            "objectives": None if self.result is None else list(self.result.objectives),
            "violation": None if self.result is None else self.result.violation,
            "scores": {str(split): score.to_data() for split, score in (self.scores or {}).items()},
            "same_as": self.same_as,
            "error": self.error,
        }


@dataclass(frozen=True)
class Choice:
    """How a search ended.

    Attributes:
        kind: "winner", "front" or "archive".
        records: numbers of the chosen candidates, the best first; at least one.
    """

    kind: str
    records: tuple[int, ...]

    @property
    def best(self) -> int:
        """The number of the best chosen candidate."""
        return self.records[0]


@dataclass(frozen=True)
class Finalist:
    """What the final choice goes by besides the item scores, which it finds in the run.

    Attributes:
        number: the candidate's.
        worth: its fitness on the search items by all that the run knew at its end, which decides between equals.
        added: what its recipe itself adds to its score (usually a cost, below 0).
    """

    number: int
    worth: float
    added: float = 0.0


@dataclass(frozen=True)
class Standing:
    """How a finalist stands on the items that decide.

    Attributes:
        score: the sum of all objectives, with what the recipe adds.
        violation: by how much it breaks limits; 0: it keeps them.
    """

    finalist: Finalist
    score: float
    violation: float = 0.0
    is_consensus: bool = False


def first_of(kind: str, standings: Sequence[Standing], doubtful: Callable[[Standing, Standing], bool]) -> Standing:
    """Return the best of the finalists, by the one rule by which searches end (and by which their luck is estimated).

    - "winner": the smallest violation (0: the limits are kept), then the best score, the worth, and the age. The
      consensus wins instead, if it keeps the limits and the winner is ahead of it by no more than a standard error.
    - "front": the largest sum of the objectives, by constraint domination (`Result.scalar`), then age; no other one
      dominates it.
    - "archive": the best score, then age.

    Args:
        kind: of the `Choice`.
        standings: at least one.
        doubtful: returns whether the first is ahead of the second by no more than a standard error of the difference.
    """
    if kind == "archive":
        return max(standings, key=lambda one: (one.score, -one.finalist.number))
    if kind == "front":
        return max(
            standings,
            key=lambda one: (
                -INFEASIBLE - one.violation if one.violation > 0.0 else one.score,
                -one.finalist.number,
            ),
        )
    winner = max(standings, key=lambda one: (-one.violation, one.score, one.finalist.worth, -one.finalist.number))
    consensus = next((one for one in standings if one.is_consensus and one.violation == 0.0), None)
    if consensus is not None and winner is not consensus and doubtful(winner, consensus):
        return consensus
    return winner


def best_scored(records: Iterable[Record]) -> Record | None:
    """Return the record with the largest fitness, the oldest of equal ones; None if none was scored."""
    scored = (record for record in records if record.fitness is not None)
    return max(scored, key=lambda record: (record.fitness or 0.0, -record.number), default=None)
