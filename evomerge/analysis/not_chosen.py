"""Finalists that were ahead of the winner on the validation items, and why they did not win."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evomerge.analysis.cautions import ROUNDING
from evomerge.analysis.choice import note_baselines
from evomerge.errors import EvaluationError
from evomerge.evaluation.objective import Objectives
from evomerge.record import Record, Split
from evomerge.store.run_dir import RunDir


class Ahead:
    """The finalists that were ahead of the winner.

    Args:
        run: the run.
        objectives: those of the run.
        winner: its record.
        finalists: the winner and the others, all with a validation score.
    """

    def __init__(self, run: RunDir, objectives: Objectives, winner: Record, finalists: Sequence[Record]) -> None:
        self._run, self._objectives, self._winner = run, objectives, winner
        self._added = {one.number: one.added for one in run.database.finalists() or ()}
        self._best_first = sorted(finalists, key=lambda record: (-self._score(record), record.number))
        if objectives.compares:
            note_baselines(run, objectives, Split.VALIDATION)

    def passed_over(self) -> dict[str, Any] | None:
        """Return the best one that keeps the limits, where the consensus won all the same.

        Returns:
            `{"id", "name", "validation"}`; None where there is none, or the winner is not the consensus.
        """
        if not self._winner.is_consensus:
            return None
        least = self._score(self._winner) + ROUNDING
        found = (one for one in self._best_first if self._score(one) > least and not self._broken(one))
        best = next(found, None)
        return None if best is None else _told(best)

    def excluded(self) -> dict[str, Any] | None:
        """Return the best one that breaks limits.

        Returns:
            `{"id", "name", "validation", "broken_limits"}`, the last one a list of sentences; None where there is none,
            or the winner breaks a limit itself.
        """
        if self._broken(self._winner):
            return None
        for one in self._best_first:
            if self._score(one) > self._score(self._winner) and (texts := self._broken(one)):
                return {**_told(one), "broken_limits": texts}
        return None

    def _score(self, record: Record) -> float:
        """Return the validation score, with what the recipe itself adds."""
        return (record.scores or {})[Split.VALIDATION].mean + self._added.get(record.number, 0.0)

    def _broken(self, record: Record) -> list[str]:
        """Return the limits that a finalist breaks on the validation items, one sentence each."""
        try:
            scores = self._run.database.item_scores(record.number, Split.VALIDATION)
            return self._objectives.violated(scores, Split.VALIDATION)
        except EvaluationError:
            return []  # recorded under other objectives, or a parent has no scores there


def _told(record: Record) -> dict[str, Any]:
    return {
        "id": record.number,
        "name": record.name,
        "validation": (record.scores or {})[Split.VALIDATION].to_data(),
    }
