"""Scoring recorded models on every item of a split: baselines on the search items, finalists on validation, and so on.

Unlike candidates, these do not depend on each other: they run side by side, and their outcomes are taken in order.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from evomerge.errors import EvaluationError, Interrupted
from evomerge.execution.base import Executor, StopSignal
from evomerge.fitness.scoring import Judge
from evomerge.record import ItemScore, Job, Outcome, Record, Split, State
from evomerge.search.events import Listener
from evomerge.search.kept_answers import KeptAnswers
from evomerge.store.database import Database
from evomerge.store.status import UNSCORED
from evomerge.system.text import ERROR_LENGTH, cut, storable

log = logging.getLogger(__name__)


class SplitScorer:
    """Scores records on splits, and tells the judge the baselines' scores before anything is compared with them.

    Args:
        splits: the splits that have items.
        kept: decides which answers stay in the run.
    """

    def __init__(
        self,
        database: Database,
        executor: Executor,
        judge: Judge,
        splits: Collection[Split],
        stop: StopSignal,
        listener: Listener,
        kept: KeptAnswers,
    ) -> None:
        self._db = database
        self._kept = kept
        self._executor = executor
        self._judge = judge
        self._splits = frozenset(splits)
        self._stop = stop
        self._listener = listener
        self._noted: set[tuple[str, Split]] = set()

    def has(self, split: Split) -> bool:
        """Return whether a split has items."""
        return split in self._splits

    def record(self, number: int) -> Record:
        """Return a record that was written before."""
        record = self._db.record(number)
        assert record is not None, f"candidate {number} was written before"
        return record

    def note(self, name: str, split: Split, scores: Sequence[ItemScore]) -> None:
        """Tell the judge a baseline's scores, with which others are compared."""
        self._judge.note_baseline(name, split, scores)
        self._noted.add((name, split))

    def all_noted(self, split: Split, names: Iterable[str]) -> bool:
        """Return whether the judge knows, on a split, each of these baselines that others are compared with."""
        references = self._judge.references
        return all((name, split) in self._noted for name in names if name in references)

    def score(self, numbers: Iterable[int], split: Split) -> None:
        """Score recorded candidates on a further split, unless they were scored on it before; baselines come first.

        Raises:
            Interrupted: if the stop signal came first.
        """
        if not self.has(split):
            return
        records = {number: self.record(number) for number in numbers}
        for record in records.values():
            if record.is_baseline and is_scored(record, split):
                self.note(record.name, split, self._db.item_scores(record.number, split))
        baselines = [record.name for record in self._db.records(baselines=True) if record.is_baseline]
        wanted = [one for one in records.values() if one.state == State.COMPLETE and not is_scored(one, split)]
        held: list[Outcome] = []  # outcomes that wait until all baselines that they are compared with are known
        for outcome in self.run(Job(record.number, record.recipe, split) for record in wanted):
            record = records[outcome.job.candidate]
            if record.is_baseline:
                self.note(record.name, split, outcome.scores)
            held.append(outcome)
            while held and self.all_noted(split, baselines):
                one = held.pop(0)
                self._keep(records[one.job.candidate], one, split)
        for one in held:
            missing = "a baseline that it is compared with could not be scored there"
            self._unscored(records[one.job.candidate], split, one.error or missing)

    def _keep(self, record: Record, outcome: Outcome, split: Split) -> None:
        if outcome.state != State.COMPLETE:
            self._unscored(record, split, outcome.error or str(outcome.state))
            return
        shown = record
        try:
            score = self._judge.score(outcome.scores, split)
            if split == Split.VALIDATION and not record.is_baseline:
                # Where it is compared with the other finalists, its limits and objectives must be known, too.
                shown = replace(record, result=self._judge.result(outcome.scores, split, record.recipe))
        except EvaluationError as unusable:  # a metric that is NaN, say
            self._unscored(record, split, str(unusable))
            return
        with self._db.together():
            self._db.add_scores(record.number, split, score, outcome.scores)
            self._kept.keep(record, split, outcome.answers)
        self._note_reason(record, split, None)
        self._listener.scored(shown, split, score)

    def _unscored(self, record: Record, split: Split, error: str) -> None:
        """Note why a record has no score on a split; when the run is continued, it is tried again."""
        log.warning("%s could not be scored on the %s items: %s", record.name, split, cut(error, ERROR_LENGTH))
        self._note_reason(record, split, storable(error))
        self._listener.scored(replace(record, error=error), split, None)

    def _note_reason(self, record: Record, split: Split, error: str | None) -> None:
        noted = self._db.get_meta(UNSCORED, {})
        before = noted.get(str(record.number), {})
        if before.get(str(split)) == error:
            return
        after = {**before, str(split): error}
        noted[str(record.number)] = {key: text for key, text in after.items() if text is not None}
        self._db.set_meta(UNSCORED, {key: texts for key, texts in noted.items() if texts})

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Run jobs that do not depend on each other, and yield their outcomes in the order of the jobs.

        Raises:
            Interrupted: if the stop signal came first.
        """
        left = deque(jobs)
        order: deque[int] = deque()
        arrived: dict[int, Outcome] = {}
        while left or order:
            while left and len(order) - len(arrived) < self._executor.capacity and not self._stop.draining:
                job = left.popleft()
                order.append(job.candidate)
                self._executor.submit(job)
            if not order:
                raise Interrupted("stopped as asked; everything scored so far is in the run")
            if order[0] not in arrived:
                outcome = self._executor.collect()
                arrived[outcome.job.candidate] = outcome
            while order and order[0] in arrived:
                yield arrived.pop(order.popleft())


def is_scored(record: Record, split: Split) -> bool:
    """Return whether a record has a score on a split."""
    return split in (record.scores or {})


def with_outcome(record: Record, outcome: Outcome) -> Record:
    """Return a record with the state, time, device and error of an outcome."""
    return replace(record, state=outcome.state, seconds=outcome.seconds, device=outcome.device, error=outcome.error)
