"""The way of a candidate from proposal to result: what it is asked, who answers, and what the answers decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evomerge.execution.base import Executor, StopSignal
from evomerge.fitness.scoring import Scoring
from evomerge.record import ItemAnswer, ItemScore, Outcome, Record, State
from evomerge.search.budget import Spent
from evomerge.search.candidates import Candidate, Candidates
from evomerge.search.course import CourseNotes
from evomerge.search.verdicts import decided
from evomerge.store.database import Database
from evomerge.strategies.base import Proposal, Strategy

Array = NDArray[np.float64]


class Questions:
    """Has the scoring's questions to candidates answered by an executor, and notes what is decided.

    Attributes:
        strategy: the strategy of the present stage.
        first: number of the stage's first candidate.

    Args:
        spent: the counts, to which the cost of answers is added.
        weights: `(n_objectives,)`, for the one number by which records are ordered.
        course: notes how candidates come about.
    """

    strategy: Strategy

    def __init__(
        self,
        database: Database,
        candidates: Candidates,
        scoring: Scoring,
        executor: Executor,
        stop: StopSignal,
        *,
        spent: Spent,
        weights: Sequence[float],
        course: CourseNotes,
    ) -> None:
        self._db = database
        self._candidates = candidates
        self._scoring = scoring
        self._executor = executor
        self._stop = stop
        self._spent = spent
        self._weights = weights
        self._course = course
        self.first = 0

    def add(self, proposal: Proposal) -> None:
        """Make a candidate of a proposal, and have it scored unless its recipe was or is being scored already."""
        self._spent.candidates += 1
        self.add_again(proposal, self._candidates.next_number, ())

    def add_again(
        self, proposal: Proposal, number: int, answers: Sequence[ItemScore], texts: Sequence[ItemAnswer] = ()
    ) -> None:
        """Do the same for a proposal that was outstanding when an earlier session ended.

        Args:
            proposal: as the strategy returns it again.
            number: of the candidate.
            answers: what it answered until then.
            texts: the same in words, as far as they were kept.
        """
        record = Record(number, f"candidate {number}", State.RUNNING, proposal.recipe, proposal.genome)
        candidate = Candidate(number, proposal.number, record, items=len(answers))
        candidate.answers = {(score.task, score.item): score for score in answers}
        candidate.texts = {(text.task, text.item): text for text in texts}
        self._candidates.add(candidate)
        self._course.asked(candidate, proposal)
        if candidate.twin is None:
            self._scoring.enter(number, record.recipe, self.point(record), self.strategy.population)
            self._queue()
            return
        self._scoring.skip(number, self.strategy.population)
        twin = self._candidates.live(candidate.twin)
        earlier = self._db.record(candidate.twin) if twin is None else twin.record
        if twin is None or twin.is_decided:
            assert earlier is not None, "a candidate that is not live was written"
            self._candidates.decide_twin(candidate, earlier)

    def submit(self) -> None:
        """Submit as many candidates as the executor has room for; those that earlier sessions answered need none."""
        candidates = self._candidates
        while candidates.n_queued and candidates.n_running < self._executor.capacity and not self._stop.stopping:
            candidate = candidates.take_queued()
            known = candidate.known(self._scoring.all_items)
            if known is not None:
                self._scoring.answer(candidate.number, known)
                self._decide()
                continue
            candidates.submitted(candidate)
            self._executor.submit(candidate.job)

    def hold(self, outcome: Outcome) -> None:
        """Keep an outcome until its turn comes, and count what it cost."""
        candidate = self._candidates.hold(outcome)
        if outcome.state == State.COMPLETE:
            n = len({(score.task, score.item) for score in outcome.scores})
        elif outcome.state == State.INVALID:
            n = 0
        else:
            wanted = outcome.job.items
            n = self._scoring.items_per_candidate if wanted is None else sum(map(len, wanted.values()))
        candidate.items += n
        self._spent.items += n

    def take(self, candidate: Candidate) -> None:
        """Pass a held outcome to the scoring: its answers may decide candidates, or lead to further questions."""
        outcome = self._candidates.take_held(candidate)
        if outcome.state == State.COMPLETE:
            self._scoring.answer(candidate.number, outcome.scores)
        else:
            candidate.record = replace(candidate.record, state=outcome.state, error=outcome.error)
            self._scoring.fail(candidate.number)
        self._decide()

    def close_generation(self) -> None:
        """Decide the candidates that wait for further candidates, of which none will come."""
        self._scoring.close_generation()
        self._decide()

    def answers(self, candidate: Candidate) -> Sequence[ItemScore]:
        """Return all answers of a candidate: of earlier sessions, of this one, and of an outcome that is held."""
        if candidate.scores:
            return candidate.scores
        held = () if candidate.outcome is None else candidate.outcome.scores
        now = {(score.task, score.item): score for score in (*self._scoring.answers_of(candidate.number), *held)}
        return tuple((candidate.answers | now).values())

    def observe(self, record: Record, scores: Sequence[ItemScore]) -> None:
        """Let the scoring observe a candidate whose result the strategy was told."""
        # No session learns from a consensus, since it was made of a ranking by all that was known before it.
        if record.state == State.COMPLETE and record.same_as is None and not record.is_consensus:
            self._scoring.observe(record.number, self.point(record), scores)

    def withdraw(self) -> None:
        """Drop all running work, because the time is up. Candidates that were not told keep their answers."""
        for candidate in self._candidates.outstanding:
            candidate.answers = {(score.task, score.item): score for score in self.answers(candidate)}
        self._candidates.drop()
        self._scoring.withdraw()

    def point(self, record: Record) -> Array | None:
        """Return the point of a candidate in the space of the present stage; it is the same in every session."""
        if not self._scoring.learns or record.number < self.first:
            return None
        return self.strategy.point(record.genome)

    def _decide(self) -> None:
        """Note what the scoring decided, and queue its further questions."""
        for verdict in self._scoring.verdicts():
            candidate = self._candidates[verdict.number]
            candidate.estimates = verdict.estimates if verdict.whole else ()
            self._candidates.decide(candidate, decided(candidate.record, verdict, self._weights), verdict.answers)
        self._queue()

    def _queue(self) -> None:
        for number, items in self._scoring.next_questions():
            self._candidates.queue(number, items)
