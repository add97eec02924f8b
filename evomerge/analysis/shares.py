"""Which metrics are shares, so that their means are shown in per cent."""

from __future__ import annotations

from collections.abc import Iterable

from evomerge.evaluation.measures.registry import MEASURES, SHARES
from evomerge.evaluation.metrics import is_share as is_share_of_lm_eval
from evomerge.evaluation.task import PYTHON


def is_share(metric: str) -> bool:
    """Return whether a metric's values are shares: of what evomerge measures of any answer, or of a task's own."""
    return metric in SHARES if metric in MEASURES.names else is_share_of_lm_eval(metric)


def shown_as_shares(metric: str, means: Iterable[float] = ()) -> bool:
    """Return whether means of a metric are shown in per cent; those of a user's own function where they can be."""
    known = metric.startswith(PYTHON) or is_share(metric)
    return known and all(-1.0 <= mean <= 1.0 for mean in means)
