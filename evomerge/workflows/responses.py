"""The answers of a run as a response matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evomerge.estimation.responses import Responses
from evomerge.record import Split
from evomerge.store.run_dir import RunDir


def responses(run_dir: str | Path) -> Responses:
    """Return the response matrix of a run; see `evomerge.api.responses`."""
    with RunDir.open(run_dir) as run, run.database.snapshot():
        return run_responses(run)


def run_responses(run: RunDir) -> Responses:
    """Return the answers of a run's baselines and candidates to the items of all splits.

    Candidates that took over another's scores are left out, since their rows would be copies.
    """
    recorded = run.database.splits()
    columns: list[tuple[str, str, str]] = []  # item, metric, split
    blocks: list[tuple[int, list[int], NDArray[np.float64]]] = []  # first column, candidate numbers, values
    for task in (run.config.get("evaluation") or {}).get("tasks") or ():
        name, metric, filter_name = task["name"], task["metric"], task.get("filter")
        # In a task with several filters, values stand under "metric,filter".
        keys = [metric] if filter_name is None else [f"{metric},{filter_name}", metric]
        for split in Split:
            for key in keys:
                numbers, items, values = run.database.response_matrix(name, key, split)
                if numbers:
                    source = recorded[name][str(split)]["task"] if name in recorded else name
                    blocks.append((len(columns), numbers, values))
                    columns += [(f"{source}/{item}", key, str(split)) for item in items]
                    break
    records = {record.number: record for record in run.database.records(baselines=True)}
    # Baselines are numbered -1, -2, … in their order.
    order = sorted({number for _, numbers, _ in blocks for number in numbers}, key=lambda n: (n >= 0, abs(n)))
    place = {number: i for i, number in enumerate(order)}
    R = np.full((len(order), len(columns)), np.nan)
    for start, numbers, values in blocks:
        R[[place[number] for number in numbers], start : start + values.shape[1]] = values
    return Responses(
        models=tuple(records[number].name for number in order),
        items=tuple(item for item, _, _ in columns),
        R=R,
        metric=tuple(metric for _, metric, _ in columns),
        recipes=tuple(records[number].recipe.content_hash for number in order),
        split=tuple(split for _, _, split in columns),
    )
