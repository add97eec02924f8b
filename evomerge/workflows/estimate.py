"""Scores of models on all items, estimated from a few of their recorded answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evomerge.errors import EstimationError
from evomerge.estimation import AskPlan, Responses, estimate_from_few, read_responses
from evomerge.estimation.discrimination import discriminations
from evomerge.workflows import Note


def estimate(
    responses: str | Path | Responses,
    *,
    calibration: Sequence[str],
    targets: Sequence[str],
    items: int,
    task: str | None,
    select: str,
    estimator: str,
    parents: Mapping[str, Sequence[str]],
    metric: str | None,
    level: float,
    seed: int,
    note: Note | None,
) -> dict[str, dict[str, Any]]:
    """Estimate targets from a few of their answers; see `evomerge.api.estimate`."""
    if not 0 < level < 1:
        raise EstimationError(f"the level of an interval lies between 0 and 1; got {level}")
    known = _of_task(responses, task, metric)
    wanted, calibrating = known.of_models(targets), known.of_models(calibration)
    rows = _rows_of_parents(parents, known, wanted.models, note)
    plan = AskPlan(items, select, estimator, seed)
    found, seen = estimate_from_few(calibrating, wanted, plan, rows)
    low, high = found.interval(level)
    return {
        name: {
            "estimate": float(found.mean[row]),
            "standard_error": float(found.se[row]),
            "interval": [float(low[row]), float(high[row])],
            "items": [item for item, score in zip(calibrating.items, seen[row], strict=True) if score == score],
        }
        for row, name in enumerate(wanted.models)
    }


def load(path: str | Path, metric: str | None) -> Responses:
    """Read a response matrix; see `evomerge.api.read_responses`."""
    return read_responses(path, metric=metric)


def negative_items(
    responses: str | Path | Responses, *, models: Sequence[str] | None, task: str | None, metric: str | None
) -> dict[str, Any]:
    """Test which items better models fail more often; see `evomerge.api.negative_items`."""
    known = _of_task(responses, task, metric)
    found = discriminations(known if models is None else known.of_models(models))
    return {
        "tested": found.tested,
        "below_zero": int((found.r < 0).sum()),
        "items": [asdict(item) for item in found.negative()],
    }


def _of_task(responses: str | Path | Responses, task: str | None, metric: str | None) -> Responses:
    """Return the responses to the items of a task, or to all items."""
    known = responses if isinstance(responses, Responses) else read_responses(responses, metric=metric)
    if task is None:
        return known
    kept = [name for name in known.items if name.startswith(f"{task}/")]
    if not kept:
        raise EstimationError(f"no item is named {task}/...; items are named like {known.items[0]!r}")
    return known.of_items(kept)


def _rows_of_parents(
    parents: Mapping[str, Sequence[str]], known: Responses, targets: Sequence[str], note: Note | None
) -> dict[str, Responses]:
    """Return the parents' rows by target; a parent without responses is left out, with a note."""
    on_file = set(known.models)
    rows = {}
    for target, names in parents.items():
        if target not in targets:
            continue  # one file may serve several lists of targets
        once = list(dict.fromkeys(names))
        for name in once:
            if name not in on_file and note is not None:
                note(f"parent {name!r} of {target!r} has no responses and is left out")
        rows[target] = known.of_models(name for name in once if name in on_file)
    return rows
