"""How a search ends: the best candidates are scored again on validation items, and a choice is made there.

The candidates were chosen on the search items, so the best of them owe their scores partly to luck; the validation
items, which the search never saw, decide. Only the chosen candidates are scored on the test items.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from evomerge.errors import EvaluationError
from evomerge.fitness.scoring import Scoring
from evomerge.record import Choice, Finalist, Record, Result, Split, Standing, first_of
from evomerge.search.events import Listener
from evomerge.search.splits import SplitScorer, is_scored
from evomerge.search.verdicts import reasons_of
from evomerge.store.database import Database
from evomerge.strategies.base import ARCHIVE, FRONT, WINNER, Strategy

log = logging.getLogger(__name__)


class Finals:
    """Makes the choice.

    Args:
        n: how many of the best candidates are scored on the validation items.
        weights: `(n_objectives,)`, where the objectives become one number.
        consensus: returns the record of the mean of the best candidates, a further finalist, or None.
    """

    def __init__(
        self,
        database: Database,
        scoring: Scoring,
        scorer: SplitScorer,
        listener: Listener,
        *,
        strategy: Strategy,
        n: int,
        weights: Sequence[float],
        consensus: Callable[[Sequence[Record]], Record | None],
    ) -> None:
        self._db = database
        self._scoring = scoring
        self._scorer = scorer
        self._listener = listener
        self._strategy = strategy
        self._n = n
        self._weights = weights
        self._consensus = consensus

    def choose(self) -> Choice:
        """Score the best candidates on the validation items, and choose there.

        Raises:
            EvaluationError: if no candidate could be scored on the search items.
            Interrupted: if the stop signal came first.
        """
        scored = [r for r in self._db.records() if r.fitness is not None and r.same_as is None and not r.is_consensus]
        ranked = sorted(self._as_known_now(scored), key=lambda record: (-(record.fitness or 0.0), record.number))
        if not ranked:
            why = reasons_of(self._db.records()) or (
                "the search ended before one was scored that is no parent and not their average (these are baselines)"
            )
            raise EvaluationError(
                f"no candidate could be scored, so there is no best merge: {why}. Set this right and continue with "
                "`evomerge resume` and a larger budget"
            )
        worth = {record.number: record.fitness or 0.0 for record in ranked}
        best = self._strategy.finalists(ranked, self._n)
        if not self._scorer.has(Split.VALIDATION):
            return self._without_validation(best, ranked)
        consensus = self._consensus(ranked)
        if consensus is not None:
            worth[consensus.number] = consensus.fitness or 0.0
        finalists = self._validate(best, ranked, consensus)
        if not finalists:
            log.warning("no finalist could be scored on the validation items: the best on the search items is chosen")
            return self._without_validation(best, ranked)
        # For the luck of the choice, which is estimated by repeating it (`evomerge.analysis.replay`).
        self._db.set_finalists([self._finalist(record, worth) for record in finalists])
        if self._strategy.choice == FRONT:
            return Choice(FRONT, self._front(finalists, Split.VALIDATION))
        if self._strategy.choice == ARCHIVE:
            # Each is the best of its niche, so that none stands for another; they are only put in order.
            best_first = sorted(finalists, key=lambda record: (-self._validated(record), record.number))
            return Choice(ARCHIVE, tuple(record.number for record in best_first))
        return Choice(WINNER, (self._winner(finalists, worth),))

    def _validate(self, best: Sequence[Record], ranked: Sequence[Record], consensus: Record | None) -> list[Record]:
        """Score the best candidates on the validation items, and return those that could be scored.

        The next best takes the place of one that could not, until as many were passed over as there are finalists.
        """
        out: set[int] = set()
        while True:
            if out:
                best = self._strategy.finalists([record for record in ranked if record.number not in out], self._n)
            if consensus is not None and consensus.number not in out:
                best = [*best[: max(1, self._n - 1)], consensus]
            new = [one.number for one in best if not is_scored(self._scorer.record(one.number), Split.VALIDATION)]
            self._listener.phase("validation", len(best), len(best) - len(new))
            self._scorer.score([record.number for record in best], Split.VALIDATION)
            records = [self._scorer.record(one.number) for one in best]
            scored = [record for record in records if is_scored(record, Split.VALIDATION)]
            if len(scored) == len(records) or len(out) >= self._n:
                return scored
            out |= {record.number for record in records if not is_scored(record, Split.VALIDATION)}

    def _finalist(self, record: Record, worth: Mapping[int, float]) -> Finalist:
        return Finalist(record.number, worth[record.number], self._scoring.judge.of_recipe(record.recipe))

    def _without_validation(self, best: Sequence[Record], ranked: Sequence[Record]) -> Choice:
        """Choose on the search items, since there are no validation items, or none could be answered."""
        if self._strategy.choice == FRONT:
            return Choice(FRONT, self._front(best, Split.SEARCH))
        if self._strategy.choice == ARCHIVE:
            return Choice(ARCHIVE, tuple(record.number for record in best))
        return Choice(WINNER, (ranked[0].number,))

    def _winner(self, finalists: Sequence[Record], worth: Mapping[int, float]) -> int:
        """Return the number of the best finalist on the validation items (see `first_of`)."""
        records = {record.number: record for record in finalists}
        standings = [
            Standing(
                self._finalist(record, worth),
                score=self._validated(record),
                violation=self._validation_result(record).violation,
                is_consensus=record.is_consensus,
            )
            for record in finalists
        ]

        def doubtful(one: Standing, other: Standing) -> bool:
            return self._doubtful(records[one.finalist.number], records[other.finalist.number])

        return first_of(WINNER, standings, doubtful).finalist.number

    def _front(self, finalists: Sequence[Record], split: Split) -> tuple[int, ...]:
        """Return the finalists that no other dominates on a split, in order of their weighted sum there, then age."""
        if split == Split.SEARCH:
            results = {record.number: record.result for record in finalists if record.result is not None}
        else:
            results = {record.number: self._validation_result(record) for record in finalists}
        best = [
            number
            for number, result in results.items()
            if not any(other.dominates(result) for other in results.values())
        ]
        return tuple(sorted(best, key=lambda number: (-results[number].scalar(self._weights), number)))

    def _doubtful(self, winner: Record, consensus: Record) -> bool:
        """Return whether a winner is ahead of the consensus by less than a standard error of the paired difference."""
        scores = [self._db.item_scores(record.number, Split.VALIDATION) for record in (winner, consensus)]
        ahead = self._validated(winner) - self._validated(consensus)
        return ahead <= self._scoring.difference_error(scores[0], scores[1], Split.VALIDATION)

    def _validation_result(self, record: Record) -> Result:
        """Return a record's result on the validation items."""
        scores = self._db.item_scores(record.number, Split.VALIDATION)
        return self._scoring.judge.result(scores, Split.VALIDATION, record.recipe)

    def _validated(self, record: Record) -> float:
        """Return the validation score plus what the recipe itself adds."""
        return (record.scores or {})[Split.VALIDATION].mean + self._scoring.judge.of_recipe(record.recipe)

    def _as_known_now(self, records: Sequence[Record]) -> list[Record]:
        """Return the records with their results re-estimated from all that the run knows at its end."""
        if not self._scoring.learns:
            return list(records)
        found = self._scoring.re_estimate({record.number: record.recipe for record in records})
        return [
            replace(record, result=found[record.number], fitness=found[record.number].scalar(self._weights))
            for record in records
            if record.number in found
        ]
