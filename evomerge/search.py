"""The loop: ask, build, score, tell, remember.

Only this module draws the arrow from scores back to the optimizer. One pass of the loop reads like the paper's
pseudo-code (Akiba et al., arXiv 2403.13187, section 3): a genome is proposed, decoded into a recipe, materialized,
scored and told. What a candidate is asked, and what its answers are worth, `fitness.scoring` says: all search items, or
a few of them and an estimate. Around the loop stands what makes the result honest: the parents and the plain average
are scored first, the best k candidates are scored again on validation items that the loop never saw, and only the
winner meets the test items.

Whatever was decided is one transaction in the run's database, written when the workers have their next jobs and before
the loop waits for them. Answers that cost next to nothing may wait for a later one's transaction (`_write_in_time`).
So a search can be killed anywhere and continued by running it again on the same run: what was in flight is run again,
and the optimizer continues from the state stored with the last record.

With several workers, a `deterministic` search gives the records of one with a single worker: no proposal is asked for
whose point could still change by what is running (`optimizers.base.sure_asks`); outcomes are taken, and told, in order.
Without it no worker waits for another one; the order of the tells is stored.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evomerge.budget import Budget, Spent
from evomerge.errors import CheckpointError, ConfigError, EvaluationError, Interrupted, RunError
from evomerge.execution.base import Executor, Gathers, Reports, StopSignal
from evomerge.fitness.scoring import Items, Scoring, Verdict
from evomerge.genome.space import Space
from evomerge.optimizers.base import Optimizer, Proposal, generation_size, sure_asks
from evomerge.recipe import Recipe
from evomerge.record import CONSENSUS, ItemScore, Job, Outcome, Record, Score, Split, State, best_scored
from evomerge.store.run_dir import RunDir

log = logging.getLogger(__name__)

CONSENSUS_SHARE, CONSENSUS_LEAST = 0.1, 4
"""Part of the scored candidates (and how many at least) whose mean genome becomes a finalist of its own."""

CONSENSUS_FROM = 20
"""Candidates that a stage must have for that; one of them is then the consensus, within the budget."""

MAX_REPEATS = 1000
"""So many proposals in a row that were all scored before end a search: the optimizer has nothing new to say."""

AHEAD = 4
"""So many jobs a worker may be submitted before the oldest one is taken: one that hangs must not hold all answers."""

WRITING_SHARE = 0.25
"""Part of a search's time that may go into transactions before answers wait for each other to share one."""

WORTH_WRITING = 0.1
"""Seconds of the workers' time: answers that took more together wait for nothing, since a kill would lose them."""


class Listener(Protocol):
    """Is told what a search does, to show it."""

    def phase(self, name: str, total: int | None, done: int) -> None:
        """A phase begins: "baselines", "search" ("search: NAME" where there are stages), "validation" or "test".

        It takes `total` candidates (None: not known), `done` of them before.
        """
        ...

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        """A candidate was scored on a split (score None: it failed)."""
        ...


@dataclass(frozen=True)
class Stage:
    """A part of a search with a space and an optimizer of its own.

    Attributes:
        until: share of the whole budget at which it ends; 1 for the last.
        begin: makes the space and the optimizer from the best recipe of the stages before (None in the first).
    """

    name: str
    until: float
    begin: Callable[[Recipe | None], tuple[Space, Optimizer]]


@dataclass
class Search:
    """One search over one run folder.

    Attributes:
        stages: what is searched, one after the other, within one budget.
        baselines: name to recipe, in the order in which they are scored; numbered -1, -2, …
        scoring: what candidates are asked, and what their answers are worth.
        finalists: how many of the best candidates are scored on the validation items.
        consensus: whether the last candidate is the mean of the best genomes, where every gene is a float. Each of the
            best owes its place partly to luck, their mean less so: the recombination of evolution strategies (Beyer,
            Evolutionary Computation 3:81, 1995, calls it genetic repair). So it is a finalist, and wins unless another
            one is better on the validation items by more than a standard error.
        splits: the splits that have items; without validation items the best on the search items wins.
        cost: what a recipe costs beyond its answers (the length of its path), in units of the fitness.
        deterministic: give the records of a search with one worker, bit for bit, at the price of workers that wait
            where the optimizer's next point depends on what is running.
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
    cost: Callable[[Recipe], float] = lambda recipe: 0.0
    deterministic: bool = False

    def __post_init__(self) -> None:
        needed = self.scoring.items_per_candidate
        if self.budget.items is not None and self.budget.items < needed:
            raise ConfigError(
                f"budget.items is {self.budget.items}, but one candidate takes {needed} items; "
                f"raise the budget or lower fitness.items or evaluation.split.search"
            )
        self._db = self.run_dir.database
        self._spent = Spent()
        self._stage = 0
        self._first = 0  # number of the stage's first candidate
        self._elite: int | None = None  # number of the recipe that the stage began with
        self._pending: dict[int, Proposal] = {}  # asked and not told
        self._undecided: dict[int, Record] = {}  # of these, those that are being scored
        self._queue: deque[tuple[int, Items | None]] = deque()  # what they are to answer next
        self._running: dict[int, None] = {}  # of these, those that were submitted and not taken; in that order
        self._arrived: dict[int, Outcome] = {}  # of these, those that an earlier one holds up
        self._partial: dict[int, dict[tuple[str, int], ItemScore]] = {}  # what they answered in earlier sessions
        self._lost: dict[int, int] = {}  # items that they took before they failed: counted again if they are run again
        self._followers: dict[int, list[Record]] = {}  # number that runs -> proposals with the same recipe
        self._ready: deque[Record] = deque()  # decided without an executor: the recipe was scored before
        self._decisions: dict[int, tuple[Record, Sequence[ItemScore]]] = {}  # not told: an earlier one is not decided
        self._unwritten: dict[
            int, tuple[Record, Sequence[ItemScore], int]
        ] = {}  # told, after so many asks; not on disk
        self._unwritten_answers = False
        self._unwritten_seconds = 0.0  # what the workers spent on them
        self._writing_seconds = 0.0  # what all transactions took
        self._numbers: dict[str, int] = {}  # recipe hash -> the number it is (being) scored under
        self._repeats = 0
        self._best = -math.inf
        self._taken_up = False  # what earlier sessions left; their progress stays as it is until then
        self._noted: set[tuple[str, Split]] = set()
        self._taken: list[int] = []  # numbers that are no proposals of the stage's optimizer

    def run(self) -> Record:
        """Run what is left of the search and return the winner's record, with its validation and test scores.

        Raises:
            Interrupted: if the stop signal came first; everything scored so far is in the run.
            CheckpointError: if a parent cannot be built, for example because its weights are NaN.
            EvaluationError: if no candidate could be scored.
            RunError: if the optimizer cannot read its state: it is another one, or another version of its library.
        """
        self._score_baselines()
        self._evolve()
        winner = self._choose_winner()
        self._test(winner)
        return self._record(winner)

    # --- parents and plain average -------------------------------------------------------------------------------

    def _score_baselines(self) -> None:
        self._tell_phase("baselines", len(self.baselines))
        named = {number: (name, self.baselines[name]) for name, number in self._baseline_order()}
        missing = [number for number in named if self._db.record(number) is None]
        for number, (name, _) in named.items():
            if number not in missing:
                self._note(name, Split.SEARCH, self._db.item_scores(number, Split.SEARCH))
        held: list[Outcome] = []  # none can be judged before all that it is compared with are known
        for outcome in self._execute(Job(number, named[number][1], Split.SEARCH) for number in missing):
            name, recipe = named[outcome.job.candidate]
            if outcome.state == State.INVALID:
                # A parent that cannot be built (NaN weights, say) spoils every candidate.
                raise CheckpointError(f"baseline {name!r} cannot be built: {outcome.error}")
            self._note(name, Split.SEARCH, outcome.scores)
            held.append(outcome)
            while held and self._all_noted(Split.SEARCH):
                one = held.pop(0)
                name, recipe = named[one.job.candidate]
                record = self._judged(one, Record(one.job.candidate, name, State.RUNNING, recipe))
                self._commit([(record, one.scores, None)])
        for number in sorted(named, reverse=True):
            if self._record(number).state == State.COMPLETE:
                self.scoring.know(number, None, self._db.item_scores(number, Split.SEARCH))
        self._rescore(named, Split.VALIDATION)

    def _baseline_order(self) -> list[tuple[str, int]]:
        """Return names and numbers of the baselines, those first that others are compared with."""
        numbered = [(name, -1 - i) for i, name in enumerate(self.baselines)]
        return sorted(numbered, key=lambda one: one[0] not in self.scoring.objective.references)

    def _note(self, name: str, split: Split, scores: Sequence[ItemScore]) -> None:
        """Tell the objective how a baseline did, for what compares with it."""
        self.scoring.objective.note_baseline(name, split, scores)
        self._noted.add((name, split))

    def _all_noted(self, split: Split) -> bool:
        """Whether every baseline that others are compared with is known on a split."""
        references = self.scoring.objective.references
        return all((name, split) in self._noted for name in self.baselines if name in references)

    # --- the loop ------------------------------------------------------------------------------------------------

    def _evolve(self) -> None:
        self._take_up()
        self._began = self.clock() - self._spent.seconds
        if self.budget.seconds is not None:
            self.stop.deadline = self._began + self.budget.seconds
        try:
            self._run_stage()
            while self._stage + 1 < len(self.stages) and not self.stop.draining and not self.stop.overdue:
                elite = self._best_number()
                if elite is None:
                    break  # nothing to begin with: choosing the winner will say why
                self._next_stage(elite)
                self._run_stage()
        except Interrupted:
            if not self.stop.overdue:
                raise
        finally:
            overdue, self.stop.deadline = self.stop.overdue, None
        if self.stop.draining:
            raise Interrupted("stopped as asked; everything scored so far is in the run")
        if overdue:
            # Time is up: what was running is dropped, as the budget says. It stays pending, so that a larger budget
            # begins with it.
            self._partial = {number: self._answers(number) for number in self._pending}
            for waiting in (self._queue, self._running, self._arrived, self._decisions, self._ready):
                waiting.clear()
            self.scoring.drop()
            self._write()
            self._spent.seconds = self.clock() - self._began
            self._db.update_progress(self._progress(), optimizer_state=self.optimizer.dump_state())

    def _run_stage(self) -> None:
        if self.deterministic and self.executor.capacity > 1 and not sure_asks(self.optimizer):
            log.warning(
                "each proposal of this optimizer depends on the one before, so a deterministic search runs one "
                "candidate at a time, which the workers share; `execution.deterministic: false` runs one for each"
            )
        total = None if self._limit.candidates is None else self._limit.candidates - self._first
        name = "search" if len(self.stages) == 1 else f"search: {self.stages[self._stage].name}"
        self._tell_phase(name, total, self._spent.candidates - self._first)
        while True:
            if not isinstance(self.executor, Gathers) and not self._ready:
                self._write_in_time()  # jobs run in this process, so nothing is gained by giving out the next one first
            while self._wants_more():
                self._propose()
            self._submit()
            if self._ready:
                self._settle([(self._ready.popleft(), ())])
            elif self._running and next(iter(self._running)) in self._arrived:
                self._take(self._arrived.pop(next(iter(self._running))), counted=True)
            elif self._running:
                self._write_in_time()  # the workers have their next jobs by now
                for outcome in self._collect():
                    self._arrive(outcome)
            elif self._wants_more():
                continue  # what ran before an interruption was answered from memory
            elif self._undecided and not self.stop.draining and not self.stop.overdue:
                self.scoring.seal()  # no more will come, so a race goes on with those that did
                self._decide()
            else:
                self._write()
                return

    def _next_stage(self, elite: int) -> None:
        """Begin the next stage with the best recipe so far. Nothing is in flight between two stages."""
        self._stage += 1
        self._first = self._spent.candidates
        self._elite = elite
        self._repeats = 0
        self.scoring.new_space()
        self._begin_stage()

    def _begin_stage(self) -> None:
        elite = None if self._elite is None else self._record(self._elite).recipe
        stage = self.stages[self._stage]
        self.space, self.optimizer = stage.begin(elite)
        self._limit = self.budget.part(stage.until)
        if self._stage == len(self.stages) - 1 and self._allows_consensus():
            kept = self._limit
            if kept.candidates is not None and kept.candidates - self._first >= CONSENSUS_FROM:
                kept = replace(kept, candidates=kept.candidates - 1)
            if kept.items is not None and kept.items >= CONSENSUS_FROM * self.scoring.items_per_candidate:
                kept = replace(kept, items=kept.items - self.scoring.items_per_candidate)
            self._limit = kept

    def _best_number(self) -> int | None:
        best = best_scored(self._db.records())
        return None if best is None else best.number

    def _take_up(self) -> None:
        """Take up the stage, its optimizer, the counts and the proposals in flight where the last record left them."""
        progress = self._db.progress()
        self._spent = Spent(**progress.get("spent", {}))
        self._stage, self._first, self._elite = progress.get("stage", (0, 0, None))
        self._taken = progress.get("taken", [])
        self._repeats = progress.get("repeats", 0)
        self._begin_stage()
        for record in self._db.records(baselines=True):
            self._numbers.setdefault(record.recipe.content_hash, record.number)
        best = best_scored(self._db.records())
        if best is not None and best.fitness is not None:
            self._best = best.fitness
            if self._db.get_meta("best") is None:
                self.run_dir.write_best(best.recipe)  # a kill may have come between its record and this
        self._know_again()
        state = self._db.optimizer_state()
        if state is not None:
            try:
                self.optimizer.load_state(state)
            except ValueError as error:  # another version of its library, say
                raise RunError(f"the run {self.run_dir.path} cannot be continued here: {error}") from error
        pending = progress.get("pending", [])
        for number, answers in progress.get("partial", {}).items():
            scores = [ItemScore(task, item, metrics) for task, item, metrics in answers]
            self._partial[int(number)] = {(score.task, score.item): score for score in scores}
        earlier_version = [[*progress.get("generation", (0, 0, 0)), []]] if pending else []
        generations = progress.get("generations", earlier_version)
        ends = [first for first, *_ in generations[1:]] + [math.inf]
        for (first, size, entered, late), end in zip(generations, ends, strict=False):
            own = [(number, x) for number, x in pending if number < end and number not in self._pending]
            self.scoring.begin(first, size, entered - len(own), late)
            for number, x in own:
                self._start(number, Proposal(self._proposal(number), np.array(x, dtype=np.float64)))
        self._taken_up = True

    def _know_again(self) -> None:
        """Tell the scoring what earlier sessions found out; not of a consensus, which no session learns from.

        It was made of the ranking by all that was known: knowing its answers too, the next session would rank anew.
        """
        if not self.scoring.learns:
            return
        for record in self._db.records():
            if record.state == State.COMPLETE and record.same_as is None and not record.is_consensus:
                self.scoring.know(record.number, self._point(record), self._db.item_scores(record.number, Split.SEARCH))

    def _wants_more(self) -> bool:
        """Whether another candidate should start now, within the budget."""
        if self.stop.draining or self.stop.overdue or not self.scoring.open:
            return False
        if len(self._running) - len(self._arrived) + len(self._queue) >= self.executor.capacity:
            return False
        if self.deterministic and not self._is_sure():
            return False
        if not self._limit.allows(self._spent, self.scoring.owed + self.scoring.items_per_candidate):
            return False
        if self._limit.seconds is not None and self.clock() - self._began >= self._limit.seconds:
            return False
        # Proposals that were all scored before cost nothing; without this, a search bounded by items might never end.
        held = len(self._pending) if self.deterministic else 0  # any of these may turn out to be a repeat
        return len(self._ready) == 0 and self._repeats + held < MAX_REPEATS

    def _is_sure(self) -> bool:
        """Whether a search with one worker would now, or later, ask for the same next proposal."""
        if not self._running and not self._queue:
            return True
        if self.scoring.learns and self.scoring.full and self._pending:
            return False  # the next generation's estimators learn from this one's answers
        return sure_asks(self.optimizer) > 0 and len(self._running) < AHEAD * self.executor.capacity

    def _propose(self) -> None:
        """Ask the optimizer for a candidate and start it."""
        proposal = self.optimizer.ask()
        number = self._number(proposal.number)
        self._spent.candidates += 1
        if self.scoring.full:
            self.scoring.begin(number, generation_size(self.optimizer))
        self._start(number, proposal)

    def _number(self, proposal: int) -> int:
        """Return the candidate that a proposal of the present optimizer is."""
        number = self._first + proposal
        for taken in self._taken:
            number += taken <= number
        return number

    def _proposal(self, number: int) -> int:
        """Return the proposal that a candidate is."""
        return number - self._first - sum(self._first <= taken < number for taken in self._taken)

    def _start(self, number: int, proposal: Proposal) -> None:
        """Decode a proposal and let it be scored, unless its recipe was scored before or is running."""
        self._pending[number] = proposal
        genome = self.space.genome(proposal.x)
        recipe = self.space.decode(genome)
        record = Record(number, f"candidate {number}", State.RUNNING, recipe, genome)
        earlier = self._numbers.setdefault(recipe.content_hash, number)
        if earlier == number:
            self._undecided[number] = record
            self.scoring.enter(number, self._point(record), self.cost(recipe))
            self._queue.extend(self.scoring.jobs())
            return
        self.scoring.skip()
        if earlier in self._undecided:
            self._followers.setdefault(earlier, []).append(record)
        else:
            decided = self._decisions.get(earlier) or self._unwritten.get(earlier)
            self._ready.append(self._copied(record, self._record(earlier) if decided is None else decided[0]))

    def _submit(self) -> None:
        """Give the executor what it has room for; what an earlier session answered is taken from there."""
        while self._queue and len(self._running) - len(self._arrived) < self.executor.capacity:
            if self.stop.draining or self.stop.overdue:
                return
            number, items = self._queue.popleft()
            known = self._partial.get(number, {})
            wanted = self.scoring.all_items
            if items is not None:
                wanted = [(task, item) for task in items for item in items[task]]
            if known and all(key in known for key in wanted):
                self.scoring.answer(number, [known[key] for key in wanted])
                self._decide()
                continue
            self._running[number] = None
            self.executor.submit(Job(number, self._undecided[number].recipe, Split.SEARCH, items))

    def _arrive(self, outcome: Outcome) -> None:
        """Take what came of a job, or hold it (on disk, too) until the jobs before it are back."""
        number = outcome.job.candidate
        if not self.deterministic or number == next(iter(self._running)):
            self._take(outcome)
            return
        self._arrived[number] = outcome
        if outcome.state == State.COMPLETE:
            self._spent.items += _n_items(outcome.scores)
            self._unwritten_answers = True

    def _take(self, outcome: Outcome, *, counted: bool = False) -> None:
        """Take what came of a job: answers that decide something, or that lead to more questions.

        Args:
            counted: whether its answers were counted when they came.
        """
        number = outcome.job.candidate
        del self._running[number]
        before = self._undecided[number]
        record = replace(before, seconds=before.seconds + outcome.seconds, device=outcome.device)
        self._undecided[number] = record
        if outcome.state != State.COMPLETE:
            if outcome.state != State.INVALID:
                wanted = outcome.job.items
                self._lost[number] = (
                    self.scoring.items_per_candidate if wanted is None else sum(map(len, wanted.values()))
                )
                self._spent.items += self._lost[number]
            self._undecided[number] = replace(record, state=outcome.state, error=outcome.error)
            self.scoring.fail(number)
        else:
            self._spent.items += 0 if counted else _n_items(outcome.scores)
            self.scoring.answer(number, outcome.scores)
        self._decide()
        self._unwritten_answers = True

    def _decide(self) -> None:
        """Settle what the scoring decided, and queue what it asks."""
        self._settle([self._decided(verdict) for verdict in self.scoring.verdicts()])
        self._queue.extend(self.scoring.jobs())

    def _decided(self, verdict: Verdict) -> tuple[Record, Sequence[ItemScore]]:
        record = self._undecided.pop(verdict.number)
        self._partial.pop(verdict.number, None)
        if verdict.score is None:
            if record.state == State.RUNNING:  # it answered, but the answers are worth nothing
                record = replace(record, state=State.FAILED, error=verdict.error)
        else:
            record = replace(
                record, state=State.COMPLETE, fitness=verdict.fitness, scores={Split.SEARCH: verdict.score}
            )
        self._follow(record)
        return record, verdict.answers

    def _follow(self, record: Record) -> None:
        """Proposals that waited for a recipe that ran already get its result."""
        for follower in self._followers.pop(record.number, []):
            self._ready.append(self._copied(follower, record))

    def _settle(self, decided: Sequence[tuple[Record, Sequence[ItemScore]]]) -> None:
        """Tell what was decided: now, or where the search is deterministic when all earlier proposals are."""
        if not self.deterministic:
            self._tell(decided)
            return
        self._decisions |= {record.number: (record, scores) for record, scores in decided}
        turn = []
        for number in sorted(self._pending):
            if number not in self._decisions:
                break
            turn.append(self._decisions.pop(number))
        self._tell(turn)

    def _tell(self, decided: Sequence[tuple[Record, Sequence[ItemScore]]]) -> None:
        """Tell the optimizer; `_write` follows when the workers have work again."""
        for record, scores in decided:
            repeats = record.same_as is not None
            self._repeats = self._repeats + 1 if repeats else 0
            self._lost.pop(record.number, None)
            self._spent.hits += repeats
            self.optimizer.tell(self._pending.pop(record.number).number, record.fitness)
            if record.state == State.COMPLETE and not repeats:
                self.scoring.know(record.number, self._point(record), scores)
            self._unwritten[record.number] = (record, scores, self._spent.candidates)

    def _write(self) -> None:
        """Write all that was told or answered since the last time, and the optimizer's state: one transaction."""
        if not self._unwritten and not self._unwritten_answers:
            return
        start = self.clock()
        self._spent.seconds = start - self._began
        told, self._unwritten, self._unwritten_answers = self._unwritten, {}, False
        self._unwritten_seconds = 0.0
        state = self.optimizer.dump_state()
        if told:
            self._commit(list(told.values()), state=state)
        else:
            self._db.update_progress(self._progress(), optimizer_state=state)
        self._writing_seconds += self.clock() - start

    def _write_in_time(self) -> None:
        """Write, unless writing takes much of the search's time and what waits took little of the workers'.

        So one transaction serves many candidates where they come faster than the disk can take them, and a search whose
        candidates take longer has each on disk before it waits for the next.
        """
        allowed = WRITING_SHARE * (self.clock() - self._began)
        if self._unwritten_seconds >= WORTH_WRITING or self._writing_seconds <= allowed:
            self._write()

    def _collect(self) -> Sequence[Outcome]:
        """Wait for a job, and return it with all that are done by then."""
        try:
            outcomes = [self.executor.collect()]
        except Exception:
            self._write()  # what waited for the next transaction
            raise
        outcomes += self.executor.more() if isinstance(self.executor, Gathers) else []
        self._unwritten_seconds += sum(outcome.seconds for outcome in outcomes)
        return outcomes

    def _point(self, record: Record) -> NDArray[np.float64] | None:
        """Where in the unit cube of the present space a candidate stands; the same in every session."""
        if not self.scoring.learns or record.genome is None or record.number < self._first:
            return None
        return self._unit(record.genome)

    def _unit(self, genome: Sequence[float]) -> NDArray[np.float64]:
        """Return where in the unit cube of the present space a genome stands."""
        return np.array([gene.unit(value) for gene, value in zip(self.space.genes, genome, strict=True)])

    def _copied(self, record: Record, earlier: Record) -> Record:
        """Give a proposal the result of the earlier candidate with the same recipe."""
        return replace(
            record,
            state=earlier.state,
            fitness=earlier.fitness,
            scores={split: score for split, score in (earlier.scores or {}).items() if split == Split.SEARCH},
            error=earlier.error,
            same_as=earlier.number if earlier.same_as is None else earlier.same_as,
        )

    # --- the winner ----------------------------------------------------------------------------------------------

    def _choose_winner(self) -> int:
        """Score the best candidates on the validation items; the best there wins (ties: fitness, then age)."""
        scored = [r for r in self._db.records() if r.fitness is not None and r.same_as is None and not r.is_consensus]
        worth = self._look_back(scored)
        ranked = sorted(scored, key=lambda record: (-worth[record.number], record.number))
        if not ranked:
            reasons = {record.error for record in self._db.records()} - {None}
            raise EvaluationError(
                f"no candidate could be scored, so there is no best merge; the reasons: {'; '.join(map(str, reasons))}"
            )
        if Split.VALIDATION not in self.splits:
            return ranked[0].number
        best = ranked[: self.finalists]
        consensus = self._consensus(ranked)
        if consensus is not None:
            best = [*best[: max(1, self.finalists - 1)], consensus]
            worth[consensus.number] = consensus.fitness or 0.0
        self._tell_phase("validation", len(best))
        self._rescore([record.number for record in best], Split.VALIDATION)
        finalists = [
            record for record in map(self._record, (r.number for r in best)) if self._has(record, Split.VALIDATION)
        ]
        consensus = next((record for record in finalists if record.is_consensus), None)
        if not finalists:
            raise EvaluationError("none of the best candidates could be scored on the validation items; see run.log")
        winner = max(
            finalists,
            key=lambda r: (
                not self._broken(r, Split.VALIDATION),
                self._worth(r, Split.VALIDATION),
                worth[r.number],
                -r.number,
            ),
        )
        if consensus is not None and winner.number != consensus.number and self._doubtful(winner, consensus):
            return consensus.number
        return winner.number

    def _doubtful(self, winner: Record, consensus: Record) -> bool:
        """Whether a winner is ahead of the consensus by less than a standard error of their paired difference."""
        if self._broken(consensus, Split.VALIDATION):
            return False
        scores = [self._db.item_scores(record.number, Split.VALIDATION) for record in (winner, consensus)]
        ahead = self._worth(winner, Split.VALIDATION) - self._worth(consensus, Split.VALIDATION)
        return ahead <= self.scoring.difference_error(scores[0], scores[1], Split.VALIDATION)

    def _consensus(self, ranked: Sequence[Record]) -> Record | None:
        """Score the mean of the best genomes like a candidate; None where there is none, or it failed."""
        ranked = [record for record in ranked if record.number >= self._first]
        if not self._allows_consensus() or len(ranked) < CONSENSUS_FROM - 1:
            return None
        n = max(CONSENSUS_LEAST, round(CONSENSUS_SHARE * len(ranked)))
        points = [self._unit(record.genome or ()) for record in ranked[:n]]
        genome = self.space.genome(np.clip(np.mean(points, axis=0), 0.0, 1.0))
        recipe = self.space.decode(genome)
        earlier = self._numbers.get(recipe.content_hash)
        if earlier is None:
            if not self.budget.allows(self._spent, self.scoring.items_per_candidate):
                return None  # too short a search to keep one of its candidates for this
            number = 1 + max([*self._pending, *(record.number for record in self._db.records())])
            self._taken.append(number)
            self._numbers[recipe.content_hash] = number
            record = Record(number, CONSENSUS, State.RUNNING, recipe, genome)
            found, answers = self._score_alone(record)
            self._spent.candidates += 1
            self._spent.items += _n_items(answers)
            self._commit([(found, answers, None)])
            earlier = number
        record = self._record(earlier)
        # A candidate that happens to be their mean is a finalist already, or was not good enough.
        return record if record.is_consensus and record.fitness is not None else None

    def _allows_consensus(self) -> bool:
        return self.consensus and not any(self.space.kinds)

    def _score_alone(self, record: Record) -> tuple[Record, Sequence[ItemScore]]:
        """Score a recipe that is no proposal, on as many search items as a candidate gets."""
        self._undecided[record.number] = record
        self.scoring.alone(record.number, self._point(record), self.cost(record.recipe))
        while jobs := self.scoring.jobs():
            for number, items in jobs:
                outcome = next(self._execute([Job(number, record.recipe, Split.SEARCH, items)]))
                record = replace(record, seconds=record.seconds + outcome.seconds, device=outcome.device)
                self._undecided[number] = record
                if outcome.state != State.COMPLETE:
                    del self._undecided[number]
                    self.scoring.drop()
                    return replace(record, state=outcome.state, error=outcome.error), ()
                self.scoring.answer(number, outcome.scores)
        return self._decided(self.scoring.verdicts()[0])

    def _broken(self, record: Record, split: Split) -> list[str]:
        """The limits that a record breaks on a split."""
        return self.scoring.objective.violated(self._db.item_scores(record.number, split), split)

    def _look_back(self, records: Sequence[Record]) -> dict[int, float]:
        """What each candidate is worth by all that the run knows at its end."""
        if not self.scoring.learns:
            return {record.number: record.fitness or 0.0 for record in records}
        found = self.scoring.look_back([record.number for record in records])
        return {record.number: found[record.number] - self.cost(record.recipe) for record in records}

    def _worth(self, record: Record, split: Split) -> float:
        """The score on a split, less what the recipe costs."""
        return (record.scores or {})[split].mean - self.cost(record.recipe)

    def _test(self, winner: int) -> None:
        """Score the winner, the parents and the average on the test items."""
        numbers = [number for _, number in self._baseline_order()]
        self._tell_phase("test", 1 + len(numbers))
        self._rescore([*numbers, winner], Split.TEST)  # baselines first: the winner may be compared with them
        self.run_dir.write_best(self._record(winner).recipe)
        self._db.set_meta("best", winner)

    def _rescore(self, numbers: Iterable[int], split: Split) -> None:
        """Score recorded candidates on a further split, unless that was done before."""
        if split not in self.splits:
            return
        records = {number: self._record(number) for number in numbers}
        for record in records.values():
            if record.is_baseline and self._has(record, split):
                self._note(record.name, split, self._db.item_scores(record.number, split))
        wanted = [one for one in records.values() if one.state == State.COMPLETE and not self._has(one, split)]
        held: list[Outcome] = []
        for outcome in self._execute(Job(record.number, record.recipe, split) for record in wanted):
            record = records[outcome.job.candidate]
            if record.is_baseline:
                self._note(record.name, split, outcome.scores)
            held.append(outcome)
            while held and self._all_noted(split):
                one = held.pop(0)
                self._keep(records[one.job.candidate], one, split)
        for one in held:  # what they are compared with could not be scored
            self._tell_scored(records[one.job.candidate], split, None)

    def _keep(self, record: Record, outcome: Outcome, split: Split) -> None:
        """Store what came of a further split."""
        score = None
        if outcome.state == State.COMPLETE:
            score = self.scoring.objective.score(outcome.scores, split)
            self._db.add_scores(record.number, split, score, outcome.scores, progress=self._progress())
        self._tell_scored(record, split, score)

    # --- small steps ---------------------------------------------------------------------------------------------

    def _execute(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Run jobs that do not depend on each other, and yield what came of them in their order."""
        left = deque(jobs)
        order: deque[int] = deque()
        arrived: dict[int, Outcome] = {}
        while left or order:
            while left and len(order) - len(arrived) < self.executor.capacity and not self.stop.draining:
                job = left.popleft()
                order.append(job.candidate)
                self.executor.submit(job)
            if not order:
                raise Interrupted("stopped as asked; everything scored so far is in the run")
            if order[0] not in arrived:
                outcome = self.executor.collect()
                arrived[outcome.job.candidate] = outcome
            while order and order[0] in arrived:
                yield arrived.pop(order.popleft())

    def _judged(self, outcome: Outcome, record: Record) -> Record:
        """Put what came of a baseline, which answered every search item, into its record."""
        record = replace(
            record, state=outcome.state, seconds=outcome.seconds, device=outcome.device, error=outcome.error
        )
        if outcome.state != State.COMPLETE:
            return record
        try:
            fitness, score = self.scoring.whole(outcome.scores)
            fitness -= self.cost(record.recipe)
        except EvaluationError as error:
            return replace(record, state=State.FAILED, error=str(error))
        if math.isnan(fitness):
            return replace(record, state=State.FAILED, error="the objective is not a number (NaN) on the search items")
        return replace(record, fitness=fitness, scores={Split.SEARCH: score})

    def _commit(
        self, decided: Sequence[tuple[Record, Sequence[ItemScore], int | None]], *, state: bytes | None = None
    ) -> None:
        """Write records, item scores, when they were told, optimizer state and counts in one transaction."""
        with self._db.together():
            for i, (record, scores, told_after) in enumerate(decided):
                last = i == len(decided) - 1
                self._db.add(
                    record,
                    optimizer_state=state if last else None,
                    scores={Split.SEARCH: scores},
                    progress=self._progress() if last else None,
                    told_after=told_after,
                )
        best = best_scored(record for record, _, _ in decided if not record.is_baseline)
        if best is not None and best.fitness is not None and best.fitness > self._best:
            self._best = best.fitness
            self.run_dir.write_best(best.recipe)
        for record, _, _ in decided:
            self._tell_scored(record, Split.SEARCH, (record.scores or {}).get(Split.SEARCH))

    def _progress(self) -> dict[str, Any]:
        """What the next session begins with: it runs what is pending as if it had not been run, but for the answers."""
        workers = {"workers": self.executor.report()} if isinstance(self.executor, Reports) else {}
        if not self._taken_up:
            return workers
        pending = [[number, proposal.x.tolist()] for number, proposal in sorted(self._pending.items())]
        partial = {
            str(number): [[score.task, score.item, dict(score.metrics)] for score in self._answers(number).values()]
            for number in self._pending
        }
        return {
            "spent": asdict(self._spent) | {"items": self._spent.items - sum(self._lost.values())},
            "pending": pending,
            "partial": {number: answers for number, answers in partial.items() if answers},
            "generations": [astuple(one) for one in self.scoring.generations(min(self._pending, default=math.inf))],
            "stage": [self._stage, self._first, self._elite],
            "taken": self._taken,
            "repeats": self._repeats,
            **workers,
        }

    def _answers(self, number: int) -> dict[tuple[str, int], ItemScore]:
        """All that a pending candidate answered: in earlier sessions, in this one, and what waits for its turn."""
        _, decided = self._decisions.get(number, (None, ()))
        arrived = self._arrived.get(number)
        now = (*decided, *self.scoring.scores_of(number), *(() if arrived is None else arrived.scores))
        return self._partial.get(number, {}) | {(score.task, score.item): score for score in now}

    def _record(self, number: int) -> Record:
        record = self._db.record(number)
        assert record is not None, f"candidate {number} was committed before"
        return record

    @staticmethod
    def _has(record: Record, split: Split) -> bool:
        return split in (record.scores or {})

    def _tell_phase(self, name: str, total: int | None, done: int = 0) -> None:
        if self.listener is not None:
            self.listener.phase(name, total, done)

    def _tell_scored(self, record: Record, split: Split, score: Score | None) -> None:
        if self.listener is not None:
            self.listener.scored(record, split, score)


def _n_items(scores: Sequence[ItemScore]) -> int:
    return len({(score.task, score.item) for score in scores})
