"""What a logger is told: the facts of a run, one row for each model that was scored, and how the search ended.

All of it is plain data, since it goes to another process (`delivery`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from evomerge.record import Score, Split

LONGEST = 80
"""Most characters of a user's name inside the name of a number."""


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run from its first moment on.

    Attributes:
        name: what it is called among the runs of its group.
        group: what it belongs to: its sweep, or all runs of its configuration.
        project: the name of its configuration.
        folder: the run folder, as it was named.
        config: the configuration without secrets; references to the environment stay references.
        seed: of the search; None: not a plain number.
        parents: their names.
        tasks: the names of the tasks.
        objectives: name to direction, "maximize" or "minimize".
    """

    name: str
    group: str
    project: str
    folder: str
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    parents: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    objectives: Mapping[str, str] = field(default_factory=dict)

    def to_data(self) -> dict[str, Any]:
        """Return JSON data; `RunFacts(**data)` is the object again, but for tuples."""
        return asdict(self)


@dataclass(frozen=True)
class LogRow:
    """What one model got on one split.

    Attributes:
        number: the candidate's, which is the step in charts; baselines have negative ones.
        name: "candidate 17", "consensus", or the baseline's name.
        split: "search", "validation" or "test".
        state: "complete", "failed" or "invalid".
        error: why it has no score, shortened; None: it has one.
        score: the weighted sum of the metrics, with its interval; None: it has none.
        fitness: the result as one number, larger is better; None: it failed or breaks a limit.
        objectives: name to value, as the user measures it (less is better where it is minimised).
        tasks: name to the mean of its own metric on the items that were answered, with its interval.
        measures: name to number: whatever else describes the candidate, such as its layers.
        violation: by how much it breaks limits; None: the search has no limits, or it failed.
        best: the largest fitness so far, in order of recording; None before there is one. Only candidates on the search
            items have it, and so `best_parent` and `failed`.
        best_parent: the score of the best parent on the search items.
        seconds: of building and scoring it.
        clock: the search's clock when it was recorded, in seconds over all sessions.
        items: item evaluations that the search had spent by then.
        failed: how many candidates had failed by then.
        genes: name to value, where there are few; those that sleep included.
        stage: the number of its stage, from 0; None: there is one stage.
        same_as: the earlier candidate with the same recipe.
    """

    number: int
    name: str
    split: str
    state: str
    error: str | None = None
    score: Score | None = None
    fitness: float | None = None
    objectives: Mapping[str, float] = field(default_factory=dict)
    tasks: Mapping[str, Score] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    violation: float | None = None
    best: float | None = None
    best_parent: float | None = None
    seconds: float = 0.0
    clock: float | None = None
    items: int | None = None
    failed: int = 0
    genes: Mapping[str, float] = field(default_factory=dict)
    stage: int | None = None
    same_as: int | None = None

    @property
    def key(self) -> str:
        """What tells it from all other rows of its run."""
        return row_key(self.number, self.split)

    @property
    def is_baseline(self) -> bool:
        """Whether it is a parent or the plain average."""
        return self.number < 0

    @property
    def step(self) -> int:
        """Where it stands in charts: at its number; baselines stand at the beginning."""
        return max(0, self.number)

    def to_data(self) -> dict[str, Any]:
        """Return JSON data, whose numbers need not be finite."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> LogRow:
        """Return what `to_data` wrote."""
        score = data.get("score")
        tasks = {name: Score(**one) for name, one in data.get("tasks", {}).items()}
        return cls(**{**data, "score": None if score is None else Score(**score), "tasks": tasks})

    def numbers(self) -> dict[str, float]:
        """Return its numbers by name, those that are finite; the part before the slash is the group of a chart.

        A name that the user chose is shortened, and holds no slash.
        """
        return {name: float(value) for name, value in self._numbers() if value is not None and math.isfinite(value)}

    def _numbers(self) -> Iterator[tuple[str, float | None]]:
        # Pages sort groups by name: what is looked at first comes first.
        further = "" if self.split == Split.SEARCH else f"_{self.split}"
        if self.is_baseline:
            yield f"reference{further}/{_part(self.name)}", None if self.score is None else self.score.mean
            return
        scores = {"score": self.score, **{_part(task): score for task, score in self.tasks.items()}}
        for name, score in scores.items():
            group = self.split if further else "candidate" if name == "score" else "candidate_tasks"
            if score is not None:
                yield f"{group}/{name}", score.mean
                yield f"intervals{further}/{name}_low", score.low
                yield f"intervals{further}/{name}_high", score.high
        if further:
            return
        yield "best/so_far", self.best
        yield "best/parent", self.best_parent
        yield "candidate/fitness", self.fitness
        yield "candidate/violation", self.violation
        if len(self.objectives) > 1:
            yield from ((f"candidate_objectives/{_part(name)}", value) for name, value in self.objectives.items())
        yield "cost/candidate_seconds", self.seconds
        yield "cost/search_seconds", self.clock
        yield "cost/items", self.items
        yield "cost/failed", self.failed
        yield "cost/stage", self.stage
        yield from ((f"genes/{_part(name)}", value) for name, value in self.genes.items())
        yield from ((f"measures/{_part(name)}", value) for name, value in self.measures.items())


@dataclass(frozen=True)
class Summary:
    """How a search ended.

    Attributes:
        state: "complete", "interrupted", "failed" or "running".
        verdict: whether to use the best merge, in a sentence; None: it is not known.
        best: the name of the best candidate.
        scores: of the best merge: a number for each split, and for each task of a split, like "test/gsm8k".
        warnings: what to bear in mind, the gravest first.
        files: name to path of what may be sent along, such as best.yaml.
    """

    state: str
    verdict: str | None = None
    best: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    def to_data(self) -> dict[str, Any]:
        """Return JSON data; `Summary(**data)` is the object again, but for tuples."""
        return asdict(self)

    @property
    def key(self) -> str:
        """What tells it from other ends of the same search."""
        return hashlib.sha256(json.dumps(self.to_data(), sort_keys=True).encode()).hexdigest()[:16]

    def text(self) -> str:
        """Return the verdict with its warnings, as lines of text."""
        return "\n".join([self.verdict or f"the search is {self.state}", *(f"- {one}" for one in self.warnings)])


def row_key(number: int, split: str) -> str:
    """Return the key of the row of a candidate on a split."""
    return f"{split} {number}"


def flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings and lists of mappings with their places, like `evaluation.tasks.0.name`."""
    if isinstance(value, Mapping) and value:
        for name, one in value.items():
            yield from flat(one, f"{place}.{name}".lstrip("."))
    elif isinstance(value, (list, tuple)) and any(isinstance(one, Mapping) for one in value):
        for i, one in enumerate(value):
            yield from flat(one, f"{place}.{i}")
    else:
        yield place, value


def _part(name: str) -> str:
    """Return a user's name as a part of a number's name: without slashes and signs that show nothing, shortened."""
    plain = "".join(one if one.isprintable() and one != "/" else "_" for one in name) or "_"
    if plain == name and len(name) <= LONGEST:
        return name
    mark = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:6]  # two names must not become one
    return f"{plain[: LONGEST - 7]}~{mark}"
