"""Which answers stay in the run, to be read by people: those of baselines, finalists, chosen and the best candidates.

What is kept follows from the records alone: the answers of a candidate on its search items are kept while it is among
the best of all that are recorded, so a continued run keeps what an uninterrupted one does. Answers of candidates that
are not recorded yet are written beside their scores, and are known again when the run is continued.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from evomerge.errors import ConfigError
from evomerge.recipe import Recipe
from evomerge.record import ItemAnswer, ItemPrompt, Record, Split
from evomerge.search.budget import AnswerLimits
from evomerge.store.answers import DROPPED
from evomerge.store.database import Database

log = logging.getLogger(__name__)

MIB = 1 << 20

Asked = tuple[str, Callable[[], Sequence[ItemPrompt]]]
"""The name of what decides how prompts are written, and what returns the prompts of a split."""


class KeptAnswers:
    """Writes the answers that are to be kept, and deletes what must make room.

    Args:
        database: the run's.
        limits: how much is kept.
        asked: returns what the model of a recipe was asked on a split; None: prompts are not kept.
    """

    def __init__(
        self, database: Database, limits: AnswerLimits, asked: Callable[[Recipe, Split], Asked] | None
    ) -> None:
        self._db = database
        self._tables = database.answers
        self._limits = limits
        self._asked = asked
        self._unfinished: dict[int, int] = {number: len(own) for number, own in self._tables.unfinished().items()}
        self._told: set[Split] = set()

    def keep(self, record: Record, split: Split, answers: Sequence[ItemAnswer]) -> None:
        """Write the answers of a recorded model on a split, if they are to be kept.

        It belongs into the transaction that writes the scores.
        """
        if not answers or self._limits.mib <= 0.0:
            return
        if split == Split.SEARCH and not record.is_baseline and not self._is_among_the_best(record):
            return
        if self._is_full(split):  # prompts alone may be too much, and take long to build
            self._note_dropped(split)
            return
        variant = self._with_prompts(record, split)
        self._tables.put(record.number, split, answers, variant=variant)
        for number in self._tables.candidates(Split.SEARCH)[self._limits.candidates :]:
            self._tables.drop(number, Split.SEARCH)
        self._make_room()

    def keep_unfinished(self, outstanding: Iterable[tuple[int, Sequence[ItemAnswer]]]) -> None:
        """Write the answers so far of candidates that are not recorded yet, and delete those of all others.

        It belongs into the transaction that writes their scores so far.
        """
        found = {number: answers for number, answers in outstanding if answers and self._limits.mib > 0.0}
        gone = self._unfinished.keys() - found.keys()
        if gone:
            self._tables.drop_unfinished(gone)
        for number, answers in found.items():
            if self._unfinished.get(number) != len(answers):
                self._tables.put_unfinished(number, answers)
        self._unfinished = {number: len(answers) for number, answers in found.items()}

    def unfinished(self) -> dict[int, list[ItemAnswer]]:
        """Return the answers of candidates that were not recorded when the last session ended."""
        return self._tables.unfinished() if self._unfinished else {}

    def _is_among_the_best(self, record: Record) -> bool:
        if record.fitness is None or self._limits.candidates == 0:
            return False
        best = self._tables.candidates(Split.SEARCH)
        if len(best) < self._limits.candidates:
            return True
        last = self._db.record(best[self._limits.candidates - 1])
        assert last is not None and last.fitness is not None, "only scored candidates have answers"
        return (record.fitness, -record.number) > (last.fitness, -last.number)

    def _with_prompts(self, record: Record, split: Split) -> str:
        """Write what a model was asked, unless it is known; return the name of how it was asked."""
        if self._asked is None:
            return ""
        variant, prompts = self._asked(record.recipe, split)
        if not self._tables.has_prompts(variant, split):
            try:
                self._tables.put_prompts(variant, split, prompts())
            except ConfigError as error:  # answers can be read without them
                log.warning("the prompts of the %s items are not kept: %s", split, error)
        return variant

    def _make_room(self) -> None:
        """Delete answers until the rest fits: first those that the fewest people miss."""
        while self._tables.n_bytes() > self._limits.mib * MIB:
            number, split = self._least()
            self._tables.drop(number, split)
            self._note_dropped(split)

    def _note_dropped(self, split: Split) -> None:
        dropped = self._db.get_meta(DROPPED, {})
        self._db.set_meta(DROPPED, {**dropped, str(split): dropped.get(str(split), 0) + 1})
        if split not in self._told:
            self._told.add(split)
            log.warning(
                "evaluation.answers.mib (%g) is full: answers to %s items are dropped, of candidates first",
                self._limits.mib,
                split,
            )

    def _is_full(self, split: Split) -> bool:
        """Return whether even the baselines' answers on a split had to go, which come first and are dropped last."""
        if str(split) not in self._db.get_meta(DROPPED, {}):
            return False
        return not any(number < 0 and own == split for number, own in self._tables.kept())

    def _least(self) -> tuple[int, Split]:
        """Return whose answers on which split are to go next.

        Search before validation before test items, and on each split candidates, the worst first, before baselines, the
        last (the average) first.
        """
        kept = self._tables.kept()
        split = next(split for split in Split if any(own == split for _, own in kept))
        candidates = self._tables.candidates(split)
        return (candidates[-1] if candidates else min(number for number, own in kept if own == split)), split
