"""From what the scoring decided to a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evomerge.fitness.scoring import Verdict
from evomerge.record import Record, Split, State


def decided(record: Record, verdict: Verdict, weights: Sequence[float]) -> Record:
    """Return a candidate's record with its result.

    Args:
        weights: of the objectives, for the one number by which records are ordered.
    """
    if verdict.result is None or verdict.score is None:
        if record.state != State.RUNNING:  # it was not even built, or not scored
            return record
        return replace(record, state=State.FAILED, error=verdict.error)
    return replace(
        record,
        state=State.COMPLETE,
        result=verdict.result,
        fitness=verdict.result.scalar(weights),
        scores={Split.SEARCH: verdict.score},
    )
