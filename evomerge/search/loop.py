"""The loop: ask, build, score, tell, remember.

Only this module carries results back to the strategy. `evolve` reads like the paper's pseudo-code (Akiba et al.,
arXiv 2403.13187, section 3): a recipe is proposed, materialized, scored and told. `fitness.scoring` says what a
candidate is asked and what its answers are worth: all search items, or a few of them and an estimate. `turns` says who
is told when, and `journal` what is written when.
"""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.execution.base import Executor, StopSignal
from evomerge.fitness.scoring import Scoring
from evomerge.record import Outcome
from evomerge.search.budget import Budget, SearchClock, Spent
from evomerge.search.candidates import Candidates
from evomerge.search.journal import Journal
from evomerge.search.questions import Questions
from evomerge.search.turns import Turns
from evomerge.strategies.base import Strategy

MAX_REPEATS = 1000
"""A search ends after so many proposals in a row that were scored before: the strategy has nothing new to propose."""


class Loop:
    """Evolves one stage after the other, with the parts that it is given.

    Attributes:
        repeats: how many proposals in a row were scored before.
    """

    def __init__(
        self,
        candidates: Candidates,
        questions: Questions,
        scoring: Scoring,
        executor: Executor,
        turns: Turns,
        journal: Journal,
        *,
        spent: Spent,
        clock: SearchClock,
        stop: StopSignal,
    ) -> None:
        self.candidates = candidates
        self.questions = questions
        self.scoring = scoring
        self.executor = executor
        self.turns = turns
        self.journal = journal
        self.spent = spent
        self.clock = clock
        self.stop = stop
        self.repeats = 0

    def evolve(self, strategy: Strategy, limit: Budget) -> None:
        """Ask, score and tell until the budget is spent, the strategy has nothing new, or someone asks to stop."""
        candidates = self.candidates
        while True:
            for candidate in self.turns.to_tell(candidates):
                strategy.tell(candidate.ask, candidate.record.result)
                self.questions.observe(candidate.record, candidate.scores)
                self._count_repeats(candidate.record.same_as is not None)
                candidates.told(candidate)
                self.journal.told(candidate)
            if not self.executor.concurrent:
                self.journal.write_if_due(self.clock.seconds)  # no worker waits for the next proposal meanwhile
            if self._may_ask(strategy, limit):
                self.questions.add(strategy.ask())
                continue
            self.questions.submit()
            if candidates.n_submitted:
                self.journal.write_if_due(self.clock.seconds)
                for outcome in self._collect():
                    self.questions.hold(outcome)
                for candidate in self.turns.to_take(candidates):
                    self.questions.take(candidate)
            elif self.turns.to_tell(candidates) or self._may_ask(strategy, limit):
                continue  # the answers of an earlier session were taken; they may lead to further questions
            elif candidates.any_undecided and not self.stop.stopping:
                self.questions.close_generation()  # no candidate will join it: a race goes on with those that there are
            else:
                self.journal.write()
                return

    def _may_ask(self, strategy: Strategy, limit: Budget) -> bool:
        """Return whether another candidate may start now: a worker is free, its turn has come, the budget suffices."""
        candidates = self.candidates
        if self.stop.stopping or not self.scoring.may_enter or not strategy.ready:
            return False
        if candidates.n_running + candidates.n_queued >= self.executor.capacity:
            return False
        if not self.turns.may_ask(candidates, strategy, self.scoring, self.executor.capacity):
            return False
        if not limit.allows(self.spent, self.scoring.reserved_items + self.scoring.items_per_candidate):
            return False
        if limit.seconds is not None and self.clock.seconds >= limit.seconds:
            return False
        # Proposals that were scored before cost nothing; without this bound, a search limited by items might never end.
        return self.repeats + self.turns.possible_repeats(candidates) < MAX_REPEATS

    def _count_repeats(self, repeats: bool) -> None:
        self.repeats = self.repeats + 1 if repeats else 0
        self.spent.hits += repeats

    def _collect(self) -> Sequence[Outcome]:
        """Wait for an outcome; return it and all others that have arrived by then."""
        try:
            outcomes = [self.executor.collect()]
        except (Exception, KeyboardInterrupt):
            self.journal.write()  # the answers that waited for the next transaction
            raise
        outcomes += self.executor.more()
        self.journal.answered(sum(outcome.seconds for outcome in outcomes))
        return outcomes
