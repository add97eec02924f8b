"""The values of items in one entry, and their mean over the items that are judged.

An item may lack a metric, because lm-eval's `nanmean` leaves it out or the task says nothing of it: it is not judged,
and its value is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from evomerge.errors import EvaluationError
from evomerge.evaluation.task import NEGATIVE_FLIPS, TaskSpec
from evomerge.record import ItemScore

LARGEST = 1e150
"""Values beyond are refused like infinite ones: their squares, which intervals are made of, would be infinite."""


def metric_key(metric: str, filter_name: str | None, metrics: Mapping[str, object]) -> str | None:
    """Return the key of a metric in an item's `metrics`: "metric", or "metric,filter" in a task with several filters.

    Returns:
        None if the item has no such metric.
    """
    full = f"{metric},{filter_name}"
    if filter_name is not None and full in metrics:
        return full
    return metric if metric in metrics else None


def value_of(spec: TaskSpec, metric: str, score: ItemScore) -> float:
    """Return the value of an item, NaN where it has none."""
    key = metric_key(metric, spec.filter, score.metrics)
    if key is None:
        return math.nan
    value = float(score.metrics[key])
    if not abs(value) <= LARGEST:  # NaN too
        raise EvaluationError(f"task {spec.name!r}, item {score.item}: metric {metric!r} is {value}")
    return value


def is_right(spec: TaskSpec, score: ItemScore) -> bool | None:
    """Return whether an answer is right, which must be 0 or 1 for flips; None: it is not judged."""
    value = value_of(spec, spec.of or "", score)
    if math.isnan(value):
        return None
    if value not in (0.0, 1.0):
        raise EvaluationError(
            f"task {spec.name!r}, item {score.item}: {spec.of!r} is {value:g}, but negative flips need a metric that "
            "is 0 or 1 for each item"
        )
    return value == 1.0


def judged(values: Sequence[float]) -> Sequence[float]:
    """Return the values of the items that are judged."""
    return [value for value in values if not math.isnan(value)] if any(map(math.isnan, values)) else values


def means_of(values: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of each entry, of the items that are judged."""
    return [math.fsum(own) / len(own) for own in map(judged, values)]


def together(values: Sequence[Sequence[float]], weights: Sequence[float]) -> tuple[Sequence[float], float]:
    """Return one value per item for the entries of a task, and its weight in the sum; NaN: not judged."""
    weighing = [(own, w) for own, w in zip(values, weights, strict=True) if w != 0.0]
    if len(weighing) < 2:  # unchanged, since a 0/1 metric has an interval of its own
        return weighing[0] if weighing else (values[0], 0.0)
    rows = zip(*(_spread(own) for own, _ in weighing), strict=True)
    return [math.fsum(w * value for (_, w), value in zip(weighing, row, strict=True)) for row in rows], 1.0


def _spread(values: Sequence[float]) -> Sequence[float]:
    """Return numbers for all items with the mean, and the error of the mean, of those that are judged.

    The mean of a part is a ratio, of which this is the linear form: an item that is not judged adds nothing to its
    error, and each of the others weighs more than if all were judged.
    """
    known = judged(values)
    if len(known) == len(values):
        return values
    mean, more = math.fsum(known) / len(known), len(values) / len(known)
    return [mean if math.isnan(value) else mean + more * (value - mean) for value in values]


def nothing_judged(spec: TaskSpec, scores: Sequence[ItemScore]) -> str:
    """Return the sentence for an entry none of whose items is judged."""
    metric = spec.of if spec.metric == NEGATIVE_FLIPS else spec.metric
    others = sorted({name for score in scores for name in score.metrics if not name.startswith("_")})
    return (
        f"task {spec.name!r}: none of {len(scores)} items has a value of {metric!r}, so there is nothing to judge by; "
        f"they have {', '.join(others) or 'none of any metric'}"
    )
