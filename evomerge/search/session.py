"""A whole search over one run folder, in as many sessions as it takes.

Around the loop stands what makes the result honest: the parents and the plain average are scored first (`baselines`),
the best candidates are scored again on validation items that the loop never saw (`winner`), and only the chosen ones
are scored on the test items.

A search can be killed at any instant and continued on the same run: candidates that were in flight are run again,
except for answers that are on the disk, and the strategy continues from the state that was written last. Nothing is
decided from what a continued search knows but an uninterrupted one would not.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from evomerge.errors import ConfigError, Interrupted, RunError
from evomerge.execution.base import Executor, StopSignal
from evomerge.fitness.scoring import Scoring
from evomerge.recipe import Recipe
from evomerge.record import Choice, ItemAnswer, ItemScore, Record, Split, best_scored
from evomerge.search.baselines import Baselines
from evomerge.search.budget import AnswerLimits, Budget, SearchClock
from evomerge.search.candidates import Candidates
from evomerge.search.consensus import enough_for_consensus, has_consensus, less_one_candidate, score_consensus
from evomerge.search.course import CourseNotes
from evomerge.search.events import Listener, Silent
from evomerge.search.journal import Journal
from evomerge.search.kept_answers import Asked, KeptAnswers
from evomerge.search.loop import Loop
from evomerge.search.questions import Questions
from evomerge.search.splits import SplitScorer, is_scored
from evomerge.search.stage import Progress, Stage
from evomerge.search.turns import AsTheyCome, InOrder
from evomerge.search.winner import Finals
from evomerge.store.run_dir import RunDir

log = logging.getLogger(__name__)


@dataclass
class Search:
    """One search over one run folder.

    Attributes:
        stages: the stages, one after the other, within one budget.
        baselines: name to recipe, in the order in which they are shown; numbered -1, -2, …
        scoring: what candidates are asked, and what their answers are worth.
        finalists: how many of the best candidates are scored on the validation items.
        consensus: whether the last candidate is the mean of the best genomes, where every gene is a float; see
            `consensus.py`.
        splits: the splits that have items; without validation items the best on the search items wins.
        deterministic: whether the records are those of a search with one worker, bit for bit; workers then wait where
            the next proposal depends on what is running.
        answers: how many answers stay in the run, to be read.
        asked: returns what the model of a recipe was asked on a split, which is kept with the answers; None: it is not.
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
    listener: Listener = field(default_factory=Silent)
    clock: Callable[[], float] = time.monotonic
    deterministic: bool = False
    answers: AnswerLimits = field(default_factory=AnswerLimits)
    asked: Callable[[Recipe, Split], Asked] | None = None

    def __post_init__(self) -> None:
        needed = self.scoring.items_per_candidate
        if self.budget.items is not None and self.budget.items < needed:
            raise ConfigError(
                f"budget.items is {self.budget.items}, but one candidate takes {needed} items; "
                f"raise the budget or lower fitness.items or evaluation.split.search"
            )
        self._db = database = self.run_dir.database
        self._progress = Progress.from_data(database.progress())
        self._taken_up = False  # until it was, the progress that earlier sessions stored stays as it is
        spent = self._progress.spent
        weights = [objective.weight for objective in self.scoring.judge.objectives]
        self._candidates = Candidates()
        self._clock = SearchClock(spent, self.clock)
        self._course = CourseNotes(database.traces, self._progress, self._clock)
        self._kept = KeptAnswers(database, self.answers, self.asked)
        self._scorer = SplitScorer(
            database, self.executor, self.scoring.judge, self.splits, self.stop, self.listener, self._kept
        )
        self._baselines = Baselines(self.baselines, self.scoring, weights)
        self._questions = Questions(
            database,
            self._candidates,
            self.scoring,
            self.executor,
            self.stop,
            spent=spent,
            weights=weights,
            course=self._course,
        )
        self._journal = Journal(
            self.run_dir,
            kept=self._kept,
            unfinished=self._unfinished_answers,
            progress=self._progress_data,
            state=lambda: self._questions.strategy.dump_state(),
            written=self._candidates.written,
            clock=self.clock,
            listener=self.listener,
            course=self._course,
        )
        self._loop = Loop(
            self._candidates,
            self._questions,
            self.scoring,
            self.executor,
            InOrder() if self.deterministic else AsTheyCome(),
            self._journal,
            spent=spent,
            clock=self._clock,
            stop=self.stop,
        )
        self._weights = weights

    def run(self) -> Record:
        """Run what is left of the search and return the best record, with its validation and test scores.

        Raises:
            Interrupted: if the stop signal came first; everything scored so far is in the run.
            CheckpointError: if a parent cannot be built, for example because its weights are NaN.
            EvaluationError: if no candidate could be scored.
            RunError: if the strategy cannot read its state: it is another one, or another version of its library.
        """
        self._baselines.score(self._db, self._scorer, self._journal, self.listener)
        self._evolve()
        self._note_left_out()
        choice = self._finals().choose()
        self._test(choice)
        return self._scorer.record(choice.best)

    # --- stages ---------------------------------------------------------------------------------------------------

    def _evolve(self) -> None:
        """Evolve the remaining stages, each within its part of the budget."""
        with self._clock:
            self._take_up()
            self.stop.deadline = self._clock.at(self.budget.seconds)
            try:
                self._evolve_stage()
                while self._progress.stage + 1 < len(self.stages) and not self.stop.stopping:
                    elite = best_scored(self._db.records())
                    if elite is None:
                        break  # no recipe to begin the stage with: the choice will say why
                    self._progress.next_stage(first=self._candidates.next_number, elite=elite.number)
                    self._loop.repeats = 0
                    self.scoring.begin_stage()
                    self._begin_stage()
                    self._course.note_standing()
                    self._evolve_stage()
            except Interrupted:
                if not self.stop.overdue:
                    raise
            finally:
                overdue, self.stop.deadline = self.stop.overdue, None
            if self.stop.draining:
                raise Interrupted("stopped as asked; everything scored so far is in the run")
            if overdue:
                # The time is up, so running candidates are dropped. They stay outstanding: a search that continues with
                # a larger budget begins with them.
                self._questions.withdraw()
                self._journal.write(always=True)

    def _begin_stage(self) -> None:
        """Make the strategy of the present stage, and find what the stage may spend."""
        progress, items = self._progress, self.scoring.items_per_candidate
        stage = self.stages[progress.stage]
        elite = None if progress.elite is None else self._scorer.record(progress.elite).recipe
        strategy = self._course.begin_stage(stage.begin(elite))
        self._questions.strategy, self._questions.first = strategy, progress.first
        self._limit = self.budget.part(stage.until)
        if progress.stage == len(self.stages) - 1 and self.consensus and has_consensus(strategy):
            self._limit = less_one_candidate(self._limit, progress.first, items)

    def _evolve_stage(self) -> None:
        """Evolve the present stage to its end."""
        strategy = self._questions.strategy
        if self.deterministic and self.executor.capacity > 1 and not strategy.sure_asks:
            log.warning(
                "each proposal of this optimizer depends on the one before, so a deterministic search runs one "
                "candidate at a time, which the workers share; `execution.deterministic: false` runs one for each"
            )
        first = self._progress.first
        whole = self.budget.part(self.stages[self._progress.stage].until)
        total = None if whole.candidates is None else whole.candidates - first  # with the consensus, the last of them
        name = "search" if len(self.stages) == 1 else f"search: {self.stages[self._progress.stage].name}"
        self.listener.phase(name, total, self._progress.spent.candidates - first)
        self._loop.evolve(strategy, self._limit)
        if self._limit != whole and not self.stop.stopping and not enough_for_consensus(self._db.records(), first):
            # Many failed or were the same: what was set aside for the consensus is a candidate like the others.
            self._limit = whole
            self._loop.evolve(strategy, whole)

    # --- sessions -------------------------------------------------------------------------------------------------

    def _take_up(self) -> None:
        """Resume where the last session ended: the stage, its strategy, the counts, the outstanding candidates."""
        data = self._db.progress()
        self._loop.repeats = data.get("repeats", 0)
        self._begin_stage()
        records, outstanding = [], data.get("outstanding", [])
        for record in self._db.records(baselines=True):
            self._candidates.know(record)
            records += [] if record.is_baseline else [record]
            if self.scoring.learns and not record.is_baseline:
                self._questions.observe(record, self._db.item_scores(record.number, Split.SEARCH))
        self._journal.take_up()
        strategy, state = self._questions.strategy, self._db.strategy_state()
        if state is not None:
            try:
                strategy.load_state(state)
            except ValueError as error:  # another version of its library, say
                raise RunError(f"the run {self.run_dir.path} cannot be continued here: {error}") from error
        self._course.take_up(records, outstanding, data)
        self._course.note_standing()
        generations = data.get("generations", [])
        ends = [first for first, *_ in generations[1:]] + [math.inf]
        begun, texts = -1, self._kept.unfinished()
        for (first, size, entered, late), end in zip(generations, ends, strict=False):
            own = [one for one in outstanding if begun < one[0] < end]
            begun = max([begun, *(one[0] for one in own)])
            self.scoring.open_generation(first, size, entered - len(own), late)
            for number, ask, genome, answers in own:
                again = strategy.again(ask, None if genome is None else tuple(genome))
                scores = [ItemScore(task, item, metrics) for task, item, metrics in answers]
                self._questions.add_again(again, number, scores, texts.get(number, ()))
        self._taken_up = True

    def _unfinished_answers(self) -> Iterator[tuple[int, Sequence[ItemAnswer]]]:
        """Yield, in words, what candidates that are not recorded yet have answered."""
        if not self._taken_up:  # those of earlier sessions stay as they are
            yield from self._kept.unfinished().items()
            return
        for one in self._candidates.outstanding:
            yield one.number, tuple(one.all_texts.values())

    def _progress_data(self) -> dict[str, Any]:
        """Return what the next session begins with: it runs outstanding candidates again, except for their answers."""
        report = self.executor.report()
        workers = {} if report is None else {"workers": report}
        if not self._taken_up:
            return workers
        self._progress.spent.seconds = self._clock.seconds
        outstanding = self._candidates.outstanding
        answers = [self._questions.answers(one) for one in outstanding]
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
            "repeats": self._loop.repeats,
            **self._course.to_data(outstanding),
            **workers,
        }

    # --- the end --------------------------------------------------------------------------------------------------

    def _note_left_out(self) -> None:
        """Note what the estimator makes of each baseline, if candidates answered some items only."""
        if self.scoring.learns:
            scored = (self._scorer.record(number) for number in self._baselines.numbers)
            known = ((one, self._db.item_scores(one.number, Split.SEARCH)) for one in scored if one.fitness is not None)
            # An earlier session may have scored a consensus, from which nobody learns.
            last = max((one.number for one in self._db.records() if not one.is_consensus), default=-1)
            self._course.note_left_out(self.scoring, last + 1, known)

    def _finals(self) -> Finals:
        return Finals(
            self._db,
            self.scoring,
            self._scorer,
            self.listener,
            strategy=self._questions.strategy,
            n=self.finalists,
            weights=self._weights,
            consensus=self._score_consensus,
        )

    def _score_consensus(self, ranked: Sequence[Record]) -> Record | None:
        if not self.consensus:
            return None
        return score_consensus(
            ranked,
            strategy=self._questions.strategy,
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
        done = sum(is_scored(self._scorer.record(number), Split.TEST) for number in numbers)
        self.listener.phase("test", len(numbers), done)
        self._scorer.score(numbers, Split.TEST)
        self.run_dir.write_best(self._scorer.record(choice.best).recipe)
        self._db.set_choice(choice)


def _as_json(score: ItemScore) -> list[Any]:
    return [score.task, score.item, dict(score.metrics)]
