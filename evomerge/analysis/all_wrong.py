"""Tasks of which no baseline has a single item right: mostly a wrong filter or target, not the models."""

from __future__ import annotations

import math
from collections.abc import Iterator

from evomerge.evaluation.item_values import metric_key
from evomerge.evaluation.objective import Objectives
from evomerge.record import Split
from evomerge.store.database import Database


def all_wrong(database: Database, objectives: Objectives) -> Iterator[str]:
    """Yield a sentence for each metric to maximize that is 0 on every search item for every baseline."""
    numbers = [record.number for record in database.baselines()]
    scores = [score for number in numbers for score in database.item_scores(number, Split.SEARCH)]
    for spec in objectives.specs:
        if spec.direction != "maximize":
            continue
        values: list[float] = []
        items = set()
        for score in scores:
            key = metric_key(spec.metric, spec.filter, score.metrics) if score.task == spec.name else None
            if key is not None and not math.isnan(value := float(score.metrics[key])):
                values.append(value)
                items.add(score.item)
        if values and not any(values):
            yield (
                f"no model has a single one of the {len(items)} search items of {spec.name} right ({spec.metric}"
                f"{'' if spec.filter in (None, 'none') else f' after the filter {spec.filter!r}'}); if that is not "
                "expected, see whether the filter, the metric and the target fit the answers"
            )
