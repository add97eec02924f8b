"""From a verdict of the scoring to a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evomerge.fitness.scoring import Verdict
from evomerge.record import Record, Split, State


def decided(record: Record, verdict: Verdict, weights: Sequence[float]) -> Record:
    """Return a candidate's record with its result.

    Args:
        weights: `(n_objectives,)`, for the one number by which records are ordered.
    """
    if verdict.result is None or verdict.score is None:
        if record.state != State.RUNNING:  # it could not be built or scored, and has its error already
            return record
        return replace(record, state=State.FAILED, error=verdict.error)
    return replace(
        record,
        state=State.COMPLETE,
        result=verdict.result,
        fitness=verdict.result.scalar(weights),
        scores={Split.SEARCH: verdict.score},
    )
