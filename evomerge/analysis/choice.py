"""The choice of a search, objective by objective, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evomerge.errors import EvaluationError
from evomerge.evaluation.objective import Objectives
from evomerge.record import Record, Score, Split
from evomerge.store.run_dir import RunDir

JUDGED = (Split.VALIDATION, Split.TEST)
"""The splits on which nothing was evolved."""


def objectives_data(objectives: Objectives) -> list[dict[str, Any]]:
    """Return the name and direction of each objective."""
    return [{"name": one.name, "direction": one.direction} for one in objectives.objectives]


def choice_data(run: RunDir, objectives: Objectives) -> dict[str, Any] | None:
    """Return how the search ended; None before its end.

    Returns:
        `kind` ("winner", "front" or "archive") and `records`, the best first: `id`, `name`, `recipe_hash` and
        `objectives` (see `objective_scores`).
    """
    choice = run.database.choice()
    if choice is None:
        return None
    records = [record for number in choice.records if (record := run.database.record(number)) is not None]
    return {
        "kind": choice.kind,
        "records": [
            {
                "id": record.number,
                "name": record.name,
                "recipe_hash": record.recipe.content_hash,
                "objectives": objective_scores(run, objectives, record),
            }
            for record in records
        ],
    }


def objective_scores(run: RunDir, objectives: Objectives, record: Record) -> dict[str, dict[str, Any]]:
    """Return a record's scores in each objective on the items on which nothing was evolved.

    Returns:
        Objective name to `validation` and `test`: `{"mean", "low", "high", "n"}` in the objective's own direction (a
        number of tokens to minimize is that number itself), or None if it was not scored.
    """
    found: dict[str, dict[str, Any]] = {one.name: {} for one in objectives.objectives}
    for split in JUDGED:
        scored = split in (record.scores or {})
        if scored and objectives.compares:
            note_baselines(run, objectives, split)
        items = run.database.item_scores(record.number, split) if scored else []
        for one in objectives.objectives:
            score = None
            if items:
                try:
                    score = objectives.score(items, split, objective=one.name)
                except EvaluationError:
                    score = None  # recorded under other objectives
            shown = score if score is None or one.direction == "maximize" else _turned(score)
            found[one.name][str(split)] = None if shown is None else shown.to_data()
    return found


def parent_names(run: RunDir) -> list[str]:
    """Return the names of the parents of a run, in order."""
    return [str(name) for name in (run.config.get("models") or {}).get("parents") or {}]


def note_baselines(run: RunDir, objectives: Objectives, split: Split) -> None:
    """Tell the objectives the baselines' scores on a split, with which others are compared."""
    for record in run.database.baselines():
        objectives.note_baseline(record.name, split, run.database.item_scores(record.number, split))


def with_choice(run: RunDir, objectives: Objectives, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return a status with `objectives`, `choice`, and in each of `baselines` its `objectives`."""
    baselines = {record.name: record for record in run.database.baselines()}
    return {
        **status,
        "objectives": objectives_data(objectives),
        "choice": choice_data(run, objectives),
        "baselines": [
            {**row, "objectives": objective_scores(run, objectives, baselines[row["name"]])}
            for row in status["baselines"]
        ],
    }


def with_each_chosen(
    run: RunDir, status: Mapping[str, Any], more: Callable[[Record], Mapping[str, Any]], first: Sequence[str]
) -> dict[str, Any]:
    """Return a status with more in each of `choice.records`; as it is before the end of the search.

    Args:
        run: the run.
        status: with its `choice`.
        more: returns what a chosen record gets.
        first: which of that the status itself gets of the first record.
    """
    choice = status.get("choice")
    if choice is None:
        return dict(status)
    rows = []
    for row in choice["records"]:
        record = run.database.record(row["id"])
        assert record is not None, "the choice was read from the same database"
        rows.append({**row, **more(record)})
    return {
        **status,
        "choice": {**choice, "records": rows},
        **({name: rows[0][name] for name in first} if rows else {}),
    }


def _turned(score: Score) -> Score:
    return Score(-score.mean, -score.high, -score.low, score.n)
