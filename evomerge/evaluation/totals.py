"""Scores that all items have only together: F1, BLEU, a perplexity, or what a task's own function makes of them.

The value is lm-eval's: the task's aggregation on the results of all items, in their order. The 95 % interval is that of
the jackknife with groups (Quenouille 1956, Biometrika 43:353; Efron & Tibshirani 1993, section 11.5): the aggregation
is repeated without each of up to 20 groups of items, so that it costs 20 aggregations rather than thousands. A value
that the jackknife cannot follow, such as a median of few items, has a rough interval.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from evomerge.evaluation.intervals import LEVEL, student_quantile
from evomerge.record import Score

GROUPS = 20
"""How many groups of items are left out, one after another."""


def total(aggregation: Callable[[list[Any]], Any], results: Sequence[Any], *, seed: int = 0) -> Score:
    """Return what an aggregation makes of all items, with its 95 % interval; (-inf, inf) where it cannot be told.

    Args:
        aggregation: lm-eval's function, or the task's own.
        results: for each item, what the task's `process_results` returned for the metric.
        seed: by which items are put into groups.

    Raises:
        Exception: whatever the aggregation raises on all items.
    """
    n = len(results)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = float(aggregation(list(results)))
        parts = _without_groups(aggregation, results, seed) if n > 1 else []
    if len(parts) < 2 or not all(map(math.isfinite, (value, *parts))):
        return Score(value, -math.inf, math.inf, n)
    groups, mean = len(parts), math.fsum(parts) / len(parts)
    error = math.sqrt((groups - 1) / groups * math.fsum((part - mean) ** 2 for part in parts))
    half = student_quantile(0.5 + LEVEL / 2, groups - 1) * error
    return Score(value, value - half, value + half, n)


def _without_groups(aggregation: Callable[[list[Any]], Any], results: Sequence[Any], seed: int) -> list[float]:
    """Return the value without each group; empty where a part of the items is too little for the aggregation."""
    n = len(results)
    order = list(range(n))
    random.Random(f"evomerge groups {seed}").shuffle(order)
    group = {item: place % min(GROUPS, n) for place, item in enumerate(order)}
    found = []
    for left_out in range(min(GROUPS, n)):
        try:
            found.append(float(aggregation([one for i, one in enumerate(results) if group[i] != left_out])))
        except Exception:  # it may need both classes, say
            return []
    return found
