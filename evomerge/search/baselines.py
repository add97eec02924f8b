"""The baselines: the parents and their plain average, scored before all candidates, to compare every result with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from evomerge.errors import CheckpointError, EvaluationError, ExecutionError, Fault
from evomerge.fitness.scoring import Scoring
from evomerge.recipe import Recipe
from evomerge.record import Job, Outcome, Record, Split, State
from evomerge.search.events import Listener
from evomerge.search.journal import Journal
from evomerge.search.splits import SplitScorer, with_outcome
from evomerge.search.verdicts import reasons_of
from evomerge.store.database import Database


class Baselines:
    """The models that a search is compared with.

    Args:
        recipes: name to recipe, in the order in which they are shown; numbered -1, -2, …
        weights: `(n_objectives,)`, with which a result becomes one number.
    """

    def __init__(self, recipes: Mapping[str, Recipe], scoring: Scoring, weights: Sequence[float]) -> None:
        self._scoring = scoring
        self._weights = weights
        references = scoring.judge.references
        numbered = [(name, -1 - i, recipe) for i, (name, recipe) in enumerate(recipes.items())]
        # Baselines that others are compared with are scored first.
        self._order = sorted(numbered, key=lambda one: one[0] not in references)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the baselines, in the order in which they are scored."""
        return [number for _, number, _ in self._order]

    def score(self, database: Database, scorer: SplitScorer, journal: Journal, listener: Listener) -> None:
        """Score the baselines that are not in the run yet, on the search and the validation items.

        One that can be built but not scored is recorded as failed, and nothing is compared with it. Not so if
        candidates are to be compared with it by its name, or if none could be scored at all, which shows a mistake in a
        task or metric rather than in a model: then the search ends here, and scores them again when it is continued.

        Raises:
            CheckpointError: if one cannot be built, for example because its weights are NaN.
            EvaluationError: if none, or one that the objectives name, could be scored.
            Interrupted: if the stop signal came first.
        """
        named = {number: (name, recipe) for name, number, recipe in self._order}
        names = [name for name, _ in named.values()]
        missing = [number for number in named if database.record(number) is None]
        listener.phase("baselines", len(named), len(named) - len(missing))
        for number, (name, _) in named.items():
            if number not in missing:
                scorer.note(name, Split.SEARCH, database.item_scores(number, Split.SEARCH))
        held: list[Outcome] = []  # outcomes that wait until all baselines that they are compared with are known
        failed: list[tuple[Record, Outcome]] = []  # failures that wait until one was scored
        scored = len(missing) < len(named)
        for outcome in scorer.run(Job(number, named[number][1], Split.SEARCH) for number in missing):
            name, recipe = named[outcome.job.candidate]
            refuse_broken(outcome, name)
            scorer.note(name, Split.SEARCH, outcome.scores)
            if outcome.state != State.COMPLETE:  # before another one is compared with it
                self._check_reference(name, outcome.error)
            held.append(outcome)
            while held and scorer.all_noted(Split.SEARCH, names):
                one = held.pop(0)
                name, recipe = named[one.job.candidate]
                record = self._judged(one, Record(one.job.candidate, name, State.RUNNING, recipe))
                scored = scored or record.state == State.COMPLETE
                if record.state != State.COMPLETE:
                    self._check_reference(record.name, record.error)
                    failed.append((record, one))
                else:
                    journal.add(record, one.scores, one.answers, parts=one.parts)
                while scored and failed:
                    record, one = failed.pop(0)
                    journal.add(record, (), parts=one.parts)
        if failed:
            reasons = reasons_of(record for record, _ in failed)
            raise EvaluationError(f"no baseline could be scored, so no merge of them will be: {reasons}")
        for number in sorted(named, reverse=True):
            if scorer.record(number).state == State.COMPLETE:
                self._scoring.observe(number, None, database.item_scores(number, Split.SEARCH))
        scorer.score(named, Split.VALIDATION)

    def _check_reference(self, name: str, error: str | None) -> None:
        """Raise an `EvaluationError` if candidates are compared by name with a baseline that could not be scored."""
        if name in self._scoring.judge.references:
            raise EvaluationError(
                f"baseline {name!r}, with which the objectives compare each candidate, could not be scored: {error}"
            )

    def _judged(self, outcome: Outcome, record: Record) -> Record:
        """Return the record of a baseline, which answered every search item."""
        record = with_outcome(record, outcome)
        if outcome.state != State.COMPLETE:
            return record
        try:
            result, score = self._scoring.judged(outcome.scores, record.recipe)
        except EvaluationError as error:
            return replace(record, state=State.FAILED, error=str(error))
        return replace(record, result=result, fitness=result.scalar(self._weights), scores={Split.SEARCH: score})


def refuse_broken(outcome: Outcome, name: str) -> None:
    """Raise the error of a baseline without which no search is possible.

    Raises:
        CheckpointError: if it cannot be built: every candidate is made of the parents.
        ExecutionError: if the device failed; another process may well score it.
    """
    if outcome.state == State.INVALID:
        raise CheckpointError(f"baseline {name!r} cannot be built: {outcome.error}")
    if outcome.fault == Fault.DEVICE:
        raise ExecutionError(f"the device failed while baseline {name!r} was scored: {outcome.error}")
