"""Which items the scores of a run were measured on: data set, split, number, and which of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.evaluation.task_data import TaskData
from evomerge.record import Split
from evomerge.store.run_dir import RunDir

DATASETS = "datasets"
"""Key in the database: of each lm-eval task the data set that its items are from (`evomerge.evaluation.task_data`)."""

_SPLITS = (Split.SEARCH, Split.VALIDATION, Split.TEST)


@dataclass(frozen=True)
class Measured:
    """The items of one task and split.

    Attributes:
        task: the lm-eval task whose documents they are.
        items: their numbers among its documents, from 0, ascending.
        documents: how many documents the task has.
        data: the data set that they are from.
    """

    task: str
    items: tuple[int, ...]
    documents: int
    data: TaskData


def measured_items(run: RunDir) -> dict[str, dict[Split, Measured]]:
    """Return the items of a run by task and split; a task without items of a split has no such entry."""
    known: Mapping[str, Any] = run.database.get_meta(DATASETS, {})
    found: dict[str, dict[Split, Measured]] = {}
    for task, splits in run.database.splits().items():
        found[task] = {
            split: Measured(
                str(splits[split]["task"]),
                tuple(splits[split].get("items", ())),
                int(splits[split].get("n_docs", 0)),
                TaskData.from_data(known.get(str(splits[split]["task"]), {})),
            )
            for split in _SPLITS
            if splits.get(split)
        }
    return found
