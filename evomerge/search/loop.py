"""The loop: ask, build, score, tell, remember.

Only this module carries results back to the strategy. `_evolve` reads like the paper's pseudo-code (Akiba et al.,
arXiv 2403.13187, section 3): a recipe is proposed, materialized, scored and told. `fitness.scoring` says what a
candidate is asked and what its answers are worth: all search items, or a few of them and an estimate. `turns` says who
is told when, and `journal` what is written when. Around the loop stands what makes the result honest: the parents and
the plain average are scored first (`baselines`), the best candidates are scored again on validation items that the loop
never saw (`winner`), and only the chosen ones are scored on the test items.

A search can be killed at any instant and continued on the same run: candidates that were in flight are run again, and
the strategy continues from the state that was stored with the last record.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from evomerge.errors import ConfigError, Interrupted
from evomerge.execution.base import Executor, StopSignal
from evomerge.fitness.scoring import Scoring
from evomerge.recipe import Recipe
from evomerge.record import Choice, ItemScore, Outcome, Record, Split, State, best_scored
from evomerge.search.baselines import Baselines
from evomerge.search.budget import Budget
from evomerge.search.candidates import Candidate, Candidates
from evomerge.search.consensus import has_consensus, less_one_candidate, score_consensus
from evomerge.search.events import Listener, Silent
from evomerge.search.journal import Journal
from evomerge.search.splits import SplitScorer
from evomerge.search.stage import Progress, Stage
from evomerge.search.turns import AsTheyCome, InOrder, Turns
from evomerge.search.verdicts import decided
from evomerge.search.winner import Finals
from evomerge.store.run_dir import RunDir
from evomerge.strategies.base import Proposal, Strategy

log = logging.getLogger(__name__)

MAX_REPEATS = 1000
"""A search ends after so many proposals in a row that were scored before: the strategy has nothing new to propose."""


@dataclass
class Search:
    """One search over one run folder.

    Attributes:
        stages: the stages, one after the other, within one budget.
        baselines: name to recipe, in the order in which they are shown; numbered -1, -2, …
        scoring: what candidates are asked, and what their answers are worth.
        finalists: how many of the best candidates are scored on the validation items.
        consensus: whether the last candidate is the mean of the best genomes, where every gene is a float; see
            `consensus`.
        splits: the splits that have items; without validation items the best on the search items wins.
        deterministic: whether the records are those of a search with one worker, bit for bit; workers then wait where
            the next proposal depends on what is running.
    """

    run_dir: RunDir
    stages: Sequence[Stage]
    executor: Executor
    scoring: Scoring
    baselines: Mapping[str, Recipe]
    budget: Budget
    finalists: int = 8
    consensus: bool = False
    splits: Collection[Split] = tuple(Split)
    stop: StopSignal = field(default_factory=StopSignal)
    listener: Listener | None = None
    clock: Callable[[], float] = time.monotonic
    deterministic: bool = False

    def __post_init__(self) -> None:
        needed = self.scoring.items_per_candidate
        if self.budget.items is not None and self.budget.items < needed:
            raise ConfigError(
                f"budget.items is {self.budget.items}, but one candidate takes {needed} items; "
                f"raise the budget or lower fitness.items or evaluation.split.search"
            )
        self._db = self.run_dir.database
        self._listener = Silent() if self.listener is None else self.listener
        self._weights = tuple(objective.weight for objective in self.scoring.judge.objectives)
        self._baselines = Baselines(self.baselines, self.scoring, self._weights)
        self._turns: Turns = InOrder() if self.deterministic else AsTheyCome()
        self._candidates = Candidates()
        self._progress = Progress.from_data(self._db.progress())
        self._scorer = SplitScorer(self._db, self.executor, self.scoring.judge, self.splits, self.stop, self._listener)
        self._journal = Journal(
            self.run_dir,
            progress=self._progress_data,
            state=lambda: self._strategy.dump_state(),
            written=self._candidates.written,
            clock=self.clock,
            listener=self._listener,
        )
        self._repeats = 0
        self._taken_up = False  # until it was, the progress that earlier sessions stored stays as it is
        self._strategy: Strategy
        self._limit: Budget
        self._began: float | None = None  # on the clock, all sessions counted; None while no stage runs

    def run(self) -> Record:
        """Run what is left of the search and return the best record, with its validation and test scores.

        Raises:
            Interrupted: if the stop signal came first; everything scored so far is in the run.
            CheckpointError: if a parent cannot be built, for example because its weights are NaN.
            EvaluationError: if no candidate could be scored.
        """
        self._baselines.score(self._db, self._scorer, self._journal, self._listener)
        self._evolve_all()
        choice = self._finals().choose()
        self._test(choice)
        return self._scorer.record(choice.best)

    # --- the loop -----------------------------------------------------------------------------------------------

    def _evolve(self) -> None:
        """Ask, score and tell until the stage's part of the budget is spent."""
        candidates = self._candidates
        while True:
            for candidate in self._turns.to_tell(candidates):
                self._strategy.tell(candidate.ask, candidate.record.result)
                self._learn(candidate)
            if not self.executor.concurrent:
                self._journal.write_if_due(self._seconds)  # no worker waits for the next proposal meanwhile
            if self._may_ask():
                self._start(self._strategy.ask())
                continue
            self._submit()
            if candidates.n_submitted:
                self._journal.write_if_due(self._seconds)
                for outcome in self._collect():
                    self._count(candidates.hold(outcome), outcome)
                for candidate in self._turns.to_take(candidates):
                    self._take(candidate)
            elif self._turns.to_tell(candidates) or self._may_ask():
                continue  # the answers of an earlier session were taken; they may lead to further questions
            elif any(True for _ in candidates.undecided) and not self._stopping:
                self.scoring.close_generation()  # no candidate will join it: a race goes on with those that there are
                self._decide()
            else:
                self._journal.write()
                return

    def _may_ask(self) -> bool:
        """Return whether another candidate may start now: a worker is free, its turn has come, the budget suffices."""
        candidates, spent = self._candidates, self._progress.spent
        if self._stopping or not self.scoring.may_enter:
            return False
        if candidates.n_running + candidates.n_queued >= self.executor.capacity:
            return False
        if not self._turns.may_ask(candidates, self._strategy, self.scoring, self.executor.capacity):
            return False
        if not self._limit.allows(spent, self.scoring.reserved_items + self.scoring.items_per_candidate):
            return False
        if self._limit.seconds is not None and self._seconds >= self._limit.seconds:
            return False
        # Proposals that were scored before cost nothing; without this bound, a search limited by items might never end.
        return self._repeats + self._turns.possible_repeats(candidates) < MAX_REPEATS

    @property
    def _seconds(self) -> float:
        """How many seconds the search has run, over all sessions."""
        return self._progress.spent.seconds if self._began is None else self.clock() - self._began

    @property
    def _stopping(self) -> bool:
        return self.stop.draining or self.stop.overdue

    def _start(self, proposal: Proposal, number: int | None = None, answers: Sequence[ItemScore] = ()) -> None:
        """Make a candidate of a proposal, and have it scored unless its recipe was or is being scored already.

        Args:
            number: the candidate's number; None: it is a new candidate.
            answers: what it answered in earlier sessions.
        """
        if number is None:
            number = self._candidates.next_number
            self._progress.spent.candidates += 1
        record = Record(number, f"candidate {number}", State.RUNNING, proposal.recipe, proposal.genome)
        candidate = Candidate(number, proposal.number, record, items=len(answers))
        candidate.answers = {(score.task, score.item): score for score in answers}
        self._candidates.add(candidate)
        if candidate.twin is None:
            self.scoring.enter(number, record.recipe, self._point(record), self._strategy.population)
            self._ask_on()
            return
        self.scoring.skip(number, self._strategy.population)
        twin = self._candidates.live(candidate.twin)
        if twin is None:
            self._candidates.decide_twin(candidate, self._scorer.record(candidate.twin))
        elif twin.is_decided:
            self._candidates.decide_twin(candidate, twin.record)

    def _submit(self) -> None:
        """Submit as many candidates as the executor has room for; those that earlier sessions answered need none."""
        candidates = self._candidates
        while candidates.n_queued and candidates.n_running < self.executor.capacity and not self._stopping:
            candidate = candidates.take_queued()
            known = candidate.known(self.scoring.all_items)
            if known is not None:
                self.scoring.answer(candidate.number, known)
                self._decide()
                continue
            candidates.submitted(candidate)
            self.executor.submit(candidate.job)

    def _collect(self) -> Sequence[Outcome]:
        """Wait for an outcome; return it and all others that have arrived by then."""
        try:
            outcomes = [self.executor.collect()]
        except Exception:
            self._journal.write()  # the answers that waited for the next transaction
            raise
        outcomes += self.executor.more()
        self._journal.answered(sum(outcome.seconds for outcome in outcomes))
        return outcomes

    def _count(self, candidate: Candidate, outcome: Outcome) -> None:
        """Add to the counts what an outcome cost."""
        if outcome.state == State.COMPLETE:
            n = len({(score.task, score.item) for score in outcome.scores})
        elif outcome.state == State.INVALID:
            n = 0
        else:
            wanted = outcome.job.items
            n = self.scoring.items_per_candidate if wanted is None else sum(map(len, wanted.values()))
        candidate.items += n
        self._progress.spent.items += n

    def _take(self, candidate: Candidate) -> None:
        """Pass an outcome to the scoring: its answers may decide candidates, or lead to further questions."""
        outcome = self._candidates.take_held(candidate)
        if outcome.state == State.COMPLETE:
            self.scoring.answer(candidate.number, outcome.scores)
        else:
            candidate.record = replace(candidate.record, state=outcome.state, error=outcome.error)
            self.scoring.fail(candidate.number)
        self._decide()

    def _decide(self) -> None:
        """Note what the scoring decided, and queue its further questions."""
        for verdict in self.scoring.verdicts():
            candidate = self._candidates[verdict.number]
            self._candidates.decide(candidate, decided(candidate.record, verdict, self._weights), verdict.answers)
        self._ask_on()

    def _ask_on(self) -> None:
        for number, items in self.scoring.next_questions():
            self._candidates.queue(number, items)

    def _learn(self, candidate: Candidate) -> None:
        """Let the scoring observe a candidate that was told, and the journal note it."""
        record = candidate.record
        repeats = record.same_as is not None
        self._repeats = self._repeats + 1 if repeats else 0
        self._progress.spent.hits += repeats
        if record.state == State.COMPLETE and not repeats:
            self.scoring.observe(record.number, self._point(record), candidate.scores)
        self._candidates.told(candidate)
        self._journal.told(candidate)

    def _point(self, record: Record) -> Any:
        """Return the point of a candidate in the space of the present stage; it is the same in every session."""
        if not self.scoring.learns or record.number < self._progress.first:
            return None
        return self._strategy.point(record.genome)

    # --- stages and sessions ------------------------------------------------------------------------------------

    def _evolve_all(self) -> None:
        self._began = self.clock() - self._progress.spent.seconds
        self._take_up()
        if self.budget.seconds is not None:
            self.stop.deadline = self._began + self.budget.seconds
        try:
            self._evolve_stage()
            while self._progress.stage + 1 < len(self.stages) and not self._stopping:
                elite = best_scored(self._db.records())
                if elite is None:
                    break  # no recipe to begin the stage with: the choice will say why
                self._next_stage(elite)
                self._evolve_stage()
        except Interrupted:
            if not self.stop.overdue:
                raise
        finally:
            overdue, self.stop.deadline = self.stop.overdue, None
        if self.stop.draining:
            raise Interrupted("stopped as asked; everything scored so far is in the run")
        if overdue:
            # The time is up, so running candidates are dropped. They stay outstanding: a search that continues with a
            # larger budget begins with them.
            for candidate in self._candidates.outstanding:
                candidate.answers = {(score.task, score.item): score for score in self._answers(candidate)}
            self._candidates.drop()
            self.scoring.withdraw()
            self._journal.write(always=True)
        self._began = None

    def _evolve_stage(self) -> None:
        if self.deterministic and self.executor.capacity > 1 and not self._strategy.sure_asks:
            log.warning(
                "each proposal of this optimizer depends on the one before, so a deterministic search runs one "
                "candidate at a time, which the workers share; `execution.deterministic: false` runs one for each"
            )
        first = self._progress.first
        total = None if self._limit.candidates is None else self._limit.candidates - first
        name = "search" if len(self.stages) == 1 else f"search: {self.stages[self._progress.stage].name}"
        self._listener.phase(name, total, self._progress.spent.candidates - first)
        self._evolve()

    def _next_stage(self, elite: Record) -> None:
        """Begin the next stage with the best recipe so far. No candidate is in flight between two stages."""
        self._progress.stage += 1
        self._progress.first = self._candidates.next_number
        self._progress.elite = elite.number
        self._repeats = 0
        self.scoring.begin_stage()
        self._begin_stage()

    def _begin_stage(self) -> None:
        progress = self._progress
        stage = self.stages[progress.stage]
        self._strategy = stage.begin(None if progress.elite is None else self._scorer.record(progress.elite).recipe)
        self._limit = self.budget.part(stage.until)
        if progress.stage == len(self.stages) - 1 and self.consensus and has_consensus(self._strategy):
            items = self.scoring.items_per_candidate
            self._limit = less_one_candidate(self._limit, progress.first, items)

    def _take_up(self) -> None:
        """Resume where the last session ended: the stage, its strategy, the counts, the outstanding candidates."""
        data = self._db.progress()
        self._repeats = data.get("repeats", 0)
        self._begin_stage()
        for record in self._db.records(baselines=True):
            self._candidates.know(record)
            # No session learns from a consensus, since it was made of a ranking by all that was known before it.
            observed = record.state == State.COMPLETE and record.same_as is None and not record.is_consensus
            if self.scoring.learns and observed and not record.is_baseline:
                self.scoring.observe(
                    record.number, self._point(record), self._db.item_scores(record.number, Split.SEARCH)
                )
        self._journal.take_up()
        state = self._db.strategy_state()
        if state is not None:
            self._strategy.load_state(state)
        outstanding = data.get("outstanding", [])
        generations = data.get("generations", [])
        ends = [first for first, *_ in generations[1:]] + [math.inf]
        begun = -1
        for (first, size, entered, late), end in zip(generations, ends, strict=False):
            own = [one for one in outstanding if begun < one[0] < end]
            begun = max([begun, *(one[0] for one in own)])
            self.scoring.open_generation(first, size, entered - len(own), late)
            for number, ask, genome, answers in own:
                again = self._strategy.again(ask, None if genome is None else tuple(genome))
                self._start(again, number, [ItemScore(task, item, metrics) for task, item, metrics in answers])
        self._taken_up = True

    def _progress_data(self) -> dict[str, Any]:
        """Return what the next session begins with: it runs outstanding candidates again, except for their answers."""
        report = self.executor.report()
        workers = {} if report is None else {"workers": report}
        if not self._taken_up:
            return workers
        self._progress.spent.seconds = self._seconds
        outstanding = self._candidates.outstanding
        answers = [self._answers(one) for one in outstanding]
        # Items that were counted but left no answer to keep (their candidate failed) will be counted again.
        lost = sum(one.items - len(own) for one, own in zip(outstanding, answers, strict=True))
        first = min((one.number for one in outstanding), default=math.inf)
        return {
            **self._progress.to_data(lost),
            "outstanding": [
                [one.number, one.ask, one.record.genome, [_as_json(score) for score in own]]
                for one, own in zip(outstanding, answers, strict=True)
            ],
            "generations": [astuple(one) for one in self.scoring.generations(first)],
            "repeats": self._repeats,
            **workers,
        }

    def _answers(self, candidate: Candidate) -> Sequence[ItemScore]:
        """Return all answers of a candidate: of earlier sessions, of this one, and of an outcome that is held."""
        if candidate.scores:
            return candidate.scores
        held = () if candidate.outcome is None else candidate.outcome.scores
        now = {(score.task, score.item): score for score in (*self.scoring.answers_of(candidate.number), *held)}
        return tuple((candidate.answers | now).values())

    # --- the end ------------------------------------------------------------------------------------------------

    def _finals(self) -> Finals:
        return Finals(
            self._db,
            self.scoring,
            self._scorer,
            self._listener,
            strategy=self._strategy,
            n=self.finalists,
            weights=self._weights,
            consensus=self._score_consensus,
        )

    def _score_consensus(self, ranked: Sequence[Record]) -> Record | None:
        if not self.consensus:
            return None
        return score_consensus(
            ranked,
            strategy=self._strategy,
            scoring=self.scoring,
            candidates=self._candidates,
            progress=self._progress,
            budget=self.budget,
            scorer=self._scorer,
            journal=self._journal,
            weights=self._weights,
        )

    def _test(self, choice: Choice) -> None:
        """Score the chosen candidates and the baselines on the test items."""
        numbers = [*self._baselines.numbers, *choice.records]  # baselines first: candidates may be compared with them
        self._listener.phase("test", len(numbers), 0)
        self._scorer.score(numbers, Split.TEST)
        self.run_dir.write_best(self._scorer.record(choice.best).recipe)
        self._db.set_choice(choice)


def _as_json(score: ItemScore) -> list[Any]:
    return [score.task, score.item, dict(score.metrics)]
