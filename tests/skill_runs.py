"""Runs of three skills, made of known answers, so that what is said of them can be worked out by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.analysis.verdict import OBJECTIVE
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import TaskSpec
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Choice, ItemScore, Record, Split, State
from evomerge.store import RunDir

N = 40
PLACES = {Split.SEARCH: 0, Split.VALIDATION: 1000, Split.TEST: 2000}
SKILLS = {"add": "adder", "reverse": "words", "capitals": "caps"}
"""Task to the parent that is best at it."""
SPECS = tuple(
    TaskSpec(task, "exact_match", filter="none", direction="maximize", weight=weight)
    for task, weight in zip(SKILLS, (2.0, 1.0, 1.0), strict=True)
)

Items = Sequence[float | None]
"""Values of the first metric, None: not judged."""
Answered = Mapping[str, Mapping[Split, Items]]
"""Task to split to answers."""


def right(n: int, of: int = N) -> list[float]:
    """Return 0/1 answers of which the first n are right, so that models that are right more often are right where
    others are."""
    return [1.0] * n + [0.0] * (of - n)


def everywhere(**n_right: int) -> dict[str, dict[Split, list[float]]]:
    """Return answers with so many of 40 right on each split."""
    return {task: dict.fromkeys(Split, right(n)) for task, n in n_right.items()}


def add_model(
    run: RunDir,
    number: int,
    name: str,
    answers: Answered,
    specs: Sequence[TaskSpec] = SPECS,
    more: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Add a record with its item scores.

    Args:
        more: task to further metrics, which all of its items have.
    """
    objectives = Objectives(specs)
    scores: dict[Split, list[ItemScore]] = {}
    for task, by_split in answers.items():
        metric = next(spec.metric for spec in specs if spec.name == task)
        for split, values in by_split.items():
            for i, value in enumerate(values):
                own = {} if value is None else {metric: value}
                metrics = {**own, **(more or {}).get(task, {}), "_note": 1.0}
                scores.setdefault(split, []).append(ItemScore(task, PLACES[split] + i, metrics))
    parent = Parent("".join(c for c in name if c.isalnum()) or "p", ModelSource("org/a"))
    recipe = Recipe("linear", (parent,), parameters={"weight": number + 99.0})
    result = objectives.result(scores[Split.SEARCH])
    record = Record(
        number,
        name,
        State.COMPLETE,
        recipe,
        fitness=result.scalar([one.weight for one in objectives.objectives]),
        scores={split: objectives.score(items) for split, items in scores.items() if _complete(items, specs)},
        result=result,
    )
    run.database.add(record, scores=scores)


def _complete(items: Sequence[ItemScore], specs: Sequence[TaskSpec]) -> bool:
    return {one.task for one in items} == {spec.name for spec in specs}


def new_run(folder: Path, specs: Sequence[TaskSpec] = SPECS, parents: Sequence[str] = tuple(SKILLS.values())) -> RunDir:
    """Make a run that knows its objectives."""
    tasks = [{"name": spec.name, "metric": spec.metric} for spec in specs]
    config: dict[str, Any] = {
        "name": "skills",
        "models": {"parents": {name: f"org/{i}" for i, name in enumerate(parents)}},
        "evaluation": {"tasks": tasks},
        "budget": {"candidates": 24},
    }
    run = RunDir.create(folder, config=config)
    run.database.set_meta(OBJECTIVE, [spec.to_data() for spec in specs])
    run.database.set_meta("state", "complete")
    return run


def three_skills(folder: Path, winner: Answered | None = None) -> RunDir:
    """Make a run whose weighted sum has gained much while reversing words is lost, unless the winner is another."""
    run = new_run(folder)
    add_model(run, -1, "adder", everywhere(add=20, reverse=2, capitals=4))
    add_model(run, -2, "words", everywhere(add=2, reverse=39, capitals=4))
    add_model(run, -3, "caps", everywhere(add=4, reverse=0, capitals=36))
    add_model(run, -4, "average", everywhere(add=12, reverse=20, capitals=20))
    add_model(run, 0, "candidate 0", everywhere(add=38, reverse=0, capitals=37) if winner is None else winner)
    run.database.set_choice(Choice("winner", (0,)))
    return run
