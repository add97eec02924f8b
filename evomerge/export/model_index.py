"""The results in a model card's metadata, which the Hub shows without a word about them.

Format: `model-index` of the Hub's model card metadata
(https://github.com/huggingface/hub-docs/blob/main/modelcard.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.analysis.measured import Measured
from evomerge.record import Score, Split


def model_index(
    title: str,
    scores: Mapping[Split, Score],
    tasks: Mapping[str, str],
    verdict: Mapping[str, Any],
    measured: Mapping[str, Mapping[Split, Measured]] | None = None,
    task_type: str = "text-generation",
) -> list[dict[str, Any]]:
    """Return each task's own metric on its test items; of one task without test items its validation score.

    What a search adds up over several tasks, or divides by a parent's score, is a value of no metric and no result.
    Neither is a score on items that the search optimized, nor, of several tasks, one on those that chose the merge.

    Args:
        title: the model's name.
        scores: those of the merge in the objective.
        tasks: task name to metric name, of the objective.
        verdict: what the scores are worth, as `evomerge.analysis.verdict.with_verdict` returns it; may be empty.
        measured: the items of each task and split.
        task_type: what the model does, as the Hub's `pipeline_tag` says it.

    Returns:
        The value of `model-index`; empty where there is no result.
    """
    found = list(_by_task(verdict))
    if not found and len(tasks) <= 1 and verdict.get("objective") != "worst":
        found = list(_of_one_task(scores, tasks, verdict))
    shared = _shared([_dataset(one, measured or {}) for one in found])
    results = [_result(one, dataset, task_type) for one, dataset in zip(found, shared, strict=True)]
    return [{"name": title, "results": results}] if results else []


@dataclass(frozen=True)
class _Found:
    """A score: of which task, on which split, in which metric, over how many items."""

    task: str
    split: Split
    metric: str
    value: float
    n: int


def _by_task(verdict: Mapping[str, Any]) -> Iterator[_Found]:
    scores = (verdict.get("best") or {}).get("tasks") or {}
    for skill in verdict.get("skills") or ():
        task = str(skill["task"])
        score = scores[task]["test"]
        if score is not None and math.isfinite(score["mean"]):
            yield _Found(task, Split.TEST, str(skill["metric"]), score["mean"], score["n"])


def _of_one_task(
    scores: Mapping[Split, Score], tasks: Mapping[str, str], verdict: Mapping[str, Any]
) -> Iterator[_Found]:
    split = next((split for split in (Split.TEST, Split.VALIDATION) if split in scores), None)
    if split is None:
        return
    value = scores[split].mean
    adjusted = (verdict.get("best") or {}).get("adjusted")
    if split is Split.VALIDATION and adjusted:  # without the luck of having been chosen
        value = adjusted["mean"]
    task, metric = next(iter(tasks.items()), ("evomerge-objective", "mean-score"))
    if math.isfinite(value):
        yield _Found(task, split, metric, value, scores[split].n)


def _dataset(found: _Found, measured: Mapping[str, Mapping[Split, Measured]]) -> dict[str, Any]:
    """Return the data set of a score: on the Hub by its id, configuration, split and commit, else as the task."""
    one = measured.get(found.task, {}).get(found.split)
    task = found.task if one is None else one.task
    args = {"lm_eval_task": task, "items": found.n, "items_of": str(found.split)}
    if one is None or one.data.dataset is None:
        return {"type": task, "name": task, "split": str(found.split), "args": args}
    data = one.data
    place = {"config": data.config, "split": data.split, "revision": data.revision}
    named = {key: value for key, value in place.items() if value is not None}
    return {"type": data.dataset, "name": task, **named, "args": args}


def _shared(datasets: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return data sets without what belongs to one task where several tasks have the same one.

    Readers of the format put results on equal data together under the name and arguments of the first.
    """
    places = [tuple(one.get(key) for key in ("type", "config", "split", "revision")) for one in datasets]
    found = []
    for one, place in zip(datasets, places, strict=True):
        if places.count(place) > 1:
            one = {key: value for key, value in one.items() if key != "args"} | {"name": one["type"]}
        found.append(one)
    return found


def _result(found: _Found, dataset: Mapping[str, Any], task_type: str) -> dict[str, Any]:
    # The name is what the Hub shows; the interval stands in the tables.
    name = found.metric if "args" in dataset else f"{found.metric} of {found.task}"
    return {
        "task": {"type": task_type, "name": task_type.replace("-", " ").capitalize()},
        "dataset": dict(dataset),
        "metrics": [{"type": found.metric.partition(",")[0], "name": name, "value": found.value}],
    }
