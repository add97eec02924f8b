"""What can be measured of an answer besides a task's own metrics."""

from __future__ import annotations

from evomerge.evaluation.measures.registry import MEASURES


def measures() -> tuple[str, ...]:
    """Return the names of the measures; see `evomerge.api.measures`."""
    return MEASURES.names
