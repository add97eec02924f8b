"""The results in a model card's metadata, which the Hub shows without a word about them.

Format: `model-index` of the Hub's model card metadata
(https://github.com/huggingface/hub-docs/blob/main/modelcard.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from evomerge.record import Score, Split


def model_index(
    title: str,
    scores: Mapping[Split, Score],
    tasks: Mapping[str, str],
    verdict: Mapping[str, Any],
    datasets: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return each task's own metric on its test items; of one task without test items its validation score.

    What a search adds up over several tasks, or divides by a parent's score, is a value of no metric and no result.
    Neither is a score on items that the search optimized, nor, of several tasks, one on those that chose the merge.

    Args:
        title: the model's name.
        scores: those of the merge in the objective.
        tasks: task name to metric name, of the objective.
        verdict: what the scores are worth, as `evomerge.analysis.verdict.with_verdict` returns it; may be empty.
        datasets: task name to the lm-eval task whose items are the test items, where that is another one.

    Returns:
        The value of `model-index`; empty where there is no result.
    """
    results = list(_by_task(verdict, datasets or {}))
    if not results and len(tasks) <= 1 and verdict.get("objective") != "worst":
        results = list(_of_one_task(scores, tasks, verdict))
    return [{"name": title, "results": results}] if results else []


def _by_task(verdict: Mapping[str, Any], datasets: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    scores = (verdict.get("best") or {}).get("tasks") or {}
    for skill in verdict.get("skills") or ():
        task = str(skill["task"])
        score = scores[task]["test"]
        if score is not None and math.isfinite(score["mean"]):
            yield _result(datasets.get(task, task), Split.TEST, str(skill["metric"]), score["mean"])


def _of_one_task(
    scores: Mapping[Split, Score], tasks: Mapping[str, str], verdict: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    split = next((split for split in (Split.TEST, Split.VALIDATION) if split in scores), None)
    if split is None:
        return
    value = scores[split].mean
    adjusted = (verdict.get("best") or {}).get("adjusted")
    if split is Split.VALIDATION and adjusted:  # without the luck of having been chosen
        value = adjusted["mean"]
    task, metric = next(iter(tasks.items()), ("evomerge-objective", "mean-score"))
    if math.isfinite(value):
        yield _result(task, split, metric, value)


def _result(task: str, split: Split, metric: str, value: float) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation", "name": "Text generation"},
        "dataset": {"type": task, "name": task, "split": str(split)},
        # The name is what the Hub shows; the interval stands in the tables.
        "metrics": [{"type": metric.partition(",")[0], "name": metric, "value": value}],
    }
