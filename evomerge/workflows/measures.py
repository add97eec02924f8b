"""What can be measured of an answer besides a task's own metrics."""

from __future__ import annotations

from evomerge.analysis.shares import is_share as known
from evomerge.evaluation.measures.registry import MEASURES


def measures() -> tuple[str, ...]:
    """Return the names of the measures; see `evomerge.api.measures`."""
    return MEASURES.names


def is_share(metric: str) -> bool:
    """Return whether a metric's values are shares; see `evomerge.api.is_share`."""
    return known(metric)
