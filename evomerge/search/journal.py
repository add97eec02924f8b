"""When a search writes, and what: all that was told or answered since the last transaction makes the next one.

A search can be killed at any instant and continued: what was not written is asked, run and told again, with the same
results. Where candidates come faster than the disk can write them, several share a transaction: answers that took
hardly any time wait for later ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from evomerge.record import ItemAnswer, ItemScore, Record, Split, best_scored
from evomerge.search.candidates import Candidate
from evomerge.search.course import CourseNotes
from evomerge.search.events import Listener
from evomerge.search.kept_answers import KeptAnswers
from evomerge.store.run_dir import RunDir

WRITING_SHARE = 0.25
"""The part of a search's time that transactions may take; beyond it, answers wait for each other to share one."""

WORTH_WRITING = 0.1
"""Seconds of the workers' time: answers that took more together are written at once, since a kill would lose them."""


Decided: TypeAlias = tuple[Record, Sequence[ItemScore], Sequence[ItemAnswer]]


class Journal:
    """Writes records, item scores, the strategy's state and the progress of a search.

    Args:
        kept: decides which answers stay in the run.
        unfinished: returns the answers so far, in words, of each candidate that was asked and not told, by its number.
        progress: returns what a later session needs besides the records, as JSON values by key.
        state: returns the strategy's state.
        written: called with each candidate that is on the disk now.
        clock: the search's clock, in seconds.
        listener: receives each record that was written.
        course: notes how the search goes.
    """

    def __init__(
        self,
        run_dir: RunDir,
        *,
        kept: KeptAnswers,
        unfinished: Callable[[], Iterable[tuple[int, Sequence[ItemAnswer]]]],
        progress: Callable[[], dict[str, Any]],
        state: Callable[[], bytes],
        written: Callable[[Candidate], None],
        clock: Callable[[], float],
        listener: Listener,
        course: CourseNotes,
    ) -> None:
        self._run_dir = run_dir
        self._db = run_dir.database
        self._kept = kept
        self._unfinished = unfinished
        self._progress = progress
        self._state = state
        self._written = written
        self._clock = clock
        self._listener = listener
        self._course = course
        self._told: list[Candidate] = []
        self._answers_wait = False
        self._seconds_wait = 0.0  # the workers' time in answers that wait to be written
        self._writing_seconds = 0.0  # the time of all transactions
        self._best = -math.inf

    def take_up(self) -> None:
        """Write the file of the best recipe anew: a kill may have come between a record and this file."""
        best = best_scored(self._db.records())
        if best is not None and best.fitness is not None:
            self._best = best.fitness
            if self._db.choice() is None:
                self._run_dir.write_best(best.recipe)

    def told(self, candidate: Candidate) -> None:
        """Note a candidate whose result the strategy was told."""
        self._told.append(candidate)
        self._course.told(candidate)

    def answered(self, seconds: float) -> None:
        """Note that workers answered, and how many seconds they worked for it."""
        self._answers_wait = True
        self._seconds_wait += seconds

    def write_if_due(self, seconds: float) -> None:
        """Write, unless transactions take much of the search's time, and waiting answers took little of the workers'.

        Args:
            seconds: how long the search has run.
        """
        allowed = WRITING_SHARE * seconds
        if self._seconds_wait >= WORTH_WRITING or self._writing_seconds <= allowed:
            self.write()

    def write(self, *, always: bool = False) -> None:
        """Write what was told or answered since the last transaction, in one transaction.

        Args:
            always: whether to write the progress even if nothing was told or answered.
        """
        if not self._told and not self._answers_wait and not always:
            return
        start = self._clock()
        told, self._told, self._answers_wait, self._seconds_wait = self._told, [], False, 0.0
        self._commit([(one.record, one.scores, tuple(one.texts.values())) for one in told], state=self._state())
        for candidate in told:
            self._written(candidate)
        self._writing_seconds += self._clock() - start

    def add(
        self,
        record: Record,
        scores: Sequence[ItemScore],
        texts: Sequence[ItemAnswer] = (),
        *,
        parts: Mapping[str, float] = MappingProxyType({}),
        parents: Sequence[int] = (),
    ) -> None:
        """Write a record that no strategy is told: a baseline, or the consensus.

        Args:
            record: the record.
            scores: its item scores.
            texts: its answers in words.
            parts: what its time went into.
            parents: numbers of the candidates of which it is made.
        """
        self._commit([(record, scores, texts)], state=None, parts=parts, parents=parents)

    def _commit(
        self,
        decided: Sequence[Decided],
        *,
        state: bytes | None,
        parts: Mapping[str, float] = MappingProxyType({}),
        parents: Sequence[int] = (),
    ) -> None:
        with self._course.writing(), self._db.together():
            for record, scores, texts in decided:
                self._db.add(record, scores={Split.SEARCH: scores})
                self._kept.keep(record, Split.SEARCH, texts)
            self._course.write([record for record, *_ in decided], parts, parents)
            self._kept.keep_unfinished(self._unfinished())
            self._db.update_progress(self._progress(), strategy_state=state)
        best = best_scored(record for record, *_ in decided if not record.is_baseline)
        if best is not None and best.fitness is not None and best.fitness > self._best:
            self._best = best.fitness
            self._run_dir.write_best(best.recipe)
        for record, *_ in decided:
            self._listener.scored(record, Split.SEARCH, (record.scores or {}).get(Split.SEARCH))
