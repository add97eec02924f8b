"""What a search asks its candidates, and what it makes of the answers.

Candidates come in generations. All candidates of a generation are asked the same items, so that their comparison is
paired; the next generation can get fresh items, so that a search cannot learn them by heart. When a generation begins,
the estimators are fitted to all earlier answers; in a race, some candidates of the generation then get more items.

Everything depends on the answers of earlier candidates and the seed alone, so a search that is continued asks the same.
Where generations overlap (several workers, no race), each one remembers the earlier candidates that were late for it:
its estimators did not learn from them, and must not do so after an interruption either.

An answered item may lack a value of a term (it is not judged, see `evaluation.objective`). For the estimators it is as
if it had not been asked; items that are judged for no reference are left out of their sight.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import EvaluationError, unknown_name
from evomerge.estimation.run_estimators import Guess, RunEstimator, make_run_estimator
from evomerge.fitness.choose import POLICIES, information_order, stratified_order, uniform_order
from evomerge.fitness.items import ItemTable
from evomerge.fitness.race import Contender, Race, next_blocks
from evomerge.record import EarlyEstimate, ItemScore, Objective, Result, Score, Split

if TYPE_CHECKING:
    from evomerge.recipe import Recipe

Array = NDArray[np.float64]
Items = Mapping[str, tuple[int, ...]]


class Judge(Protocol):
    """The part of `evomerge.evaluation.objective.Objectives` that is used here."""

    @property
    def objectives(self) -> Sequence[Objective]:
        """The objectives of the search; a `Result` has one number for each."""
        ...

    @property
    def references(self) -> Collection[str]:
        """The names of the baselines that must be noted before any model is judged."""
        ...

    def note_baseline(self, name: str, split: Split, scores: Sequence[ItemScore]) -> None:
        """Remember a baseline's scores, with which models are compared; call it before judging the baseline itself."""
        ...

    def result(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH, recipe: Recipe | None = None) -> Result:
        """Return what a strategy is told of a candidate that answered every item."""
        ...

    def result_of(self, means: Sequence[float], recipe: Recipe | None = None) -> Result:
        """Return the result of a candidate whose terms have these means."""
        ...

    def estimate(self, means: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
        """Return the sum of the objectives of estimated means, without what the recipe adds, and its standard error."""
        ...

    def estimated_score(self, terms: Callable[[float], Sequence[Score]]) -> Score:
        """Return that sum with its 95 % interval, from each term's interval of the level of a z."""
        ...

    def difference_error(
        self, one: Sequence[ItemScore], other: Sequence[ItemScore], split: Split = Split.SEARCH
    ) -> float:
        """Return the standard error of the difference of two models' scores on the same items."""
        ...

    def of_recipe(self, recipe: Recipe) -> float:
        """Return what the recipe itself adds to every objective."""
        ...

    def score(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH) -> Score:
        """Return the score (a weighted sum, or the worst entry) with its 95 % interval."""
        ...

    def violated(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH) -> list[str]:
        """Return the limits that a candidate breaks, in words; none: it is feasible."""
        ...

    def answers(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH) -> Mapping[str, Mapping[int, float]]:
        """Return term name to item to value."""
        ...


@dataclass(frozen=True)
class Verdict:
    """What a candidate is worth.

    Attributes:
        result: what a strategy is told; None where the candidate could not be scored, for the reason in `error`.
        score: over all search items; estimated where not all were answered.
        answers: all answers of the candidate, in the order of the item table; empty without a result.
        estimates: what was made of a part of the items on the way, the fewest first; decides nothing.
        whole: whether every search item was answered, so that nothing is estimated.
    """

    number: int
    result: Result | None
    score: Score | None
    answers: tuple[ItemScore, ...]
    error: str | None = None
    estimates: tuple[EarlyEstimate, ...] = ()
    whole: bool = False


@dataclass
class Generation:
    """Candidates that are compared with each other.

    Attributes:
        first: number of its first candidate.
        size: how many candidates it is to have.
        entered: how many it has so far.
        late: numbers of earlier candidates that were not decided when it began.
    """

    first: int = 0
    size: int = 0
    entered: int = 0
    late: tuple[int, ...] = ()

    @property
    def full(self) -> bool:
        """Whether the next candidate begins another generation."""
        return self.entered >= self.size


@dataclass
class _Entry:
    number: int
    point: Array | None
    recipe: Recipe
    rows: list[Array]
    answered: int = 0
    scores: list[ItemScore] = field(default_factory=list)
    error: str | None = None
    outstanding: bool = False
    estimates: list[EarlyEstimate] = field(default_factory=list)

    def note(self, mean: float, error: float) -> None:
        """Keep an estimate if it is from twice as many items as the one before, so that a long race leaves few."""
        if math.isfinite(mean + error) and (not self.estimates or self.answered >= 2 * self.estimates[-1].n):
            self.estimates.append(EarlyEstimate(self.answered, mean, error))


class Scoring:
    """Asks candidates about items, estimates their scores, and decides them.

    Args:
        judge: turns item scores into results.
        table: the search items and the terms measured on them.
        items: how many items a candidate gets (in a race: on average, at most); None: all.
        choose: one of `choose.POLICIES`.
        fresh: whether each generation gets other items.
        estimator: name of the estimator, which is used where a candidate did not answer every item.
        race: how the candidates of a generation compete for items; None: all get the same number.
        seed: the run's.

    Raises:
        ValueError: if there is no such way to choose items.
    """

    def __init__(
        self,
        judge: Judge,
        table: ItemTable,
        *,
        items: int | None = None,
        choose: str = "stratified",
        fresh: bool = True,
        estimator: str = "model",
        race: Race | None = None,
        seed: int = 0,
    ) -> None:
        if choose not in POLICIES:
            raise ValueError(unknown_name("way to choose items", choose, POLICIES))
        self.judge = judge
        self._table = table
        self._choose = choose
        self._fresh = fresh
        self._race = race
        self._seed = seed
        self.items_per_candidate = table.size if items is None else min(items, table.size)
        self._whole = self.items_per_candidate == table.size and race is None
        self._estimator = estimator
        self._estimators = self._new_estimators()
        self._others: list[Array] = [np.empty((0, len(table.items[term.task]))) for term in table.terms]
        self._seen: list[NDArray[np.bool_]] = [np.ones(len(table.items[term.task]), dtype=bool) for term in table.terms]
        self._references: dict[int, list[Array]] = {}
        self._known: dict[int, tuple[Array | None, list[Array]]] = {}
        self._generations = [Generation()]
        self._order: NDArray[np.int64] = np.arange(table.size)
        self._entries: dict[int, _Entry] = {}
        self._failed: dict[int, _Entry] = {}  # of the open race
        self._spent = self._turn = 0
        self._closed = False
        self._questions: list[tuple[int, Items | None]] = []
        self._verdicts: list[Verdict] = []

    # --- what the search says ------------------------------------------------------------------------------------

    def observe(self, number: int, point: Array | None, scores: Sequence[ItemScore]) -> None:
        """Take the answers of a baseline (a negative number) or of a candidate that was decided.

        Args:
            number: of the baseline or candidate.
            point: `(n_dims,)`, the candidate's point in the unit cube of the present space; None: it has none there.
            scores: all its answers.
        """
        if self._whole or not scores:
            return
        rows = self._rows(scores)
        if number < 0:
            if len({(score.task, score.item) for score in scores}) == self._table.size:
                self._references[number] = rows
        else:
            self._known[number] = (point, rows)

    def observe_others(self, rows: Mapping[str, Array]) -> None:
        """Take the answers of further models (of other runs, say), which show how hard items are.

        Args:
            rows: term name to `(n_models, n_task_items)`, NaN where not answered.
        """
        for k, term in enumerate(self._table.terms):
            if term.name in rows:
                self._others[k] = np.asarray(rows[term.name], dtype=np.float64)

    def without(self, number: int) -> Scoring:
        """Return a scoring that knows the same but for one baseline, and has no candidates.

        Other models that answer a term as that baseline does are left out of it, too: they may be the same one.

        Args:
            number: of the baseline.
        """
        other = copy.copy(self)
        other._estimators, other._seen = self._new_estimators(), list(self._seen)
        own = self._references.get(number)
        if own is not None:
            other._others = [
                rows[~((rows == row) | np.isnan(rows) | np.isnan(row)).all(axis=1)]
                for rows, row in zip(self._others, own, strict=True)
            ]
        other._references = {one: rows for one, rows in self._references.items() if one != number}
        other._known, other._generations = dict(self._known), [Generation()]
        other._entries, other._failed, other._questions, other._verdicts = {}, {}, [], []
        return other

    def begin_stage(self) -> None:
        """Forget the points of all candidates: the next ones come from another space."""
        self._known = {number: (None, rows) for number, (_, rows) in self._known.items()}
        self._generations = [Generation()]

    def open_generation(self, first: int, size: int, entered: int = 0, late: Sequence[int] | None = None) -> None:
        """Begin a generation.

        Args:
            first: number of its first candidate.
            size: how many candidates it is to have.
            entered: how many of them are decided already.
            late: numbers of the earlier candidates that were not decided when it began; None: it begins now.

        Raises:
            EvaluationError: if candidates are to answer some items only, and no baseline answered all.
        """
        self._generations.append(Generation(first, size, entered, tuple(self._entries if late is None else late)))
        self._closed = False
        self._prepare(first, self._generations[-1].late)

    def close_generation(self) -> None:
        """Decide the open generation with the candidates that entered: no others will come."""
        self._closed, self._generations[-1].entered = True, self._generations[-1].size
        self._settle()

    def generations(self, since: float) -> Sequence[Generation]:
        """Return the generation of candidate `since` and all later ones; earlier ones are forgotten."""
        while len(self._generations) > 1 and self._generations[1].first <= since:
            del self._generations[0]
        return self._generations

    @property
    def learns(self) -> bool:
        """Whether later candidates depend on the answers of earlier ones."""
        return not self._whole

    @property
    def all_items(self) -> Sequence[tuple[str, int]]:
        """Every search item, as task and index."""
        return self._table.keys

    @property
    def generation_full(self) -> bool:
        """Whether the next candidate begins a new generation."""
        return self._generations[-1].full

    @property
    def may_enter(self) -> bool:
        """Whether another candidate may enter now; in a race a generation is decided before the next one begins."""
        return not (self.generation_full and self._race is not None and self._entries)

    @property
    def reserved_items(self) -> int:
        """How many items the undecided candidates may still take."""
        if self._race is not None and self._entries:
            return self.items_per_candidate * len(self._entries) - self._spent
        return sum(self.items_per_candidate - entry.answered for entry in self._entries.values())

    def enter(self, number: int, recipe: Recipe, point: Array | None, population: int) -> None:
        """Let a candidate enter the open generation, or a new one where that is full.

        Args:
            number: of the candidate.
            recipe: of the candidate.
            point: `(n_dims,)`, its point in the unit cube; None: it has none.
            population: the size of a generation.
        """
        self._count(number, population)
        self._take_in(number, recipe, point)

    def enter_alone(self, number: int, recipe: Recipe, point: Array | None) -> None:
        """Let a candidate enter that belongs to no generation, while no other is being scored."""
        self._closed = True
        self._prepare(number, ())
        self._take_in(number, recipe, point)

    def _take_in(self, number: int, recipe: Recipe, point: Array | None) -> None:
        rows = [np.full(len(self._table.items[term.task]), np.nan) for term in self._table.terms]
        entry = _Entry(number, point, recipe, rows)
        self._entries[number] = entry
        first = self.items_per_candidate if self._race is None else min(self._race.block, self.items_per_candidate)
        self._give(entry, first)

    def skip(self, number: int, population: int) -> None:
        """Count a candidate that needs no answers, since its recipe was scored before or is being scored."""
        self._count(number, population)

    def _count(self, number: int, population: int) -> None:
        if self.generation_full:
            self.open_generation(number, population)
        self._generations[-1].entered += 1

    def answer(self, number: int, scores: Sequence[ItemScore]) -> None:
        """Take a candidate's answers to its last questions."""
        entry = self._entries[number]
        entry.outstanding = False
        entry.scores += scores
        self._spent += len({(score.task, score.item) for score in scores})
        entry.answered = len({(score.task, score.item) for score in entry.scores})
        try:
            for row, new in zip(entry.rows, self._rows(scores), strict=True):
                row[~np.isnan(new)] = new[~np.isnan(new)]
        except EvaluationError as error:
            entry.error = str(error)
        self._settle()

    def fail(self, number: int) -> None:
        """Drop a candidate that could not be built or scored; the search records why.

        In a race it is decided together with the others: a search that is continued runs the race again, with what the
        candidate had answered until it failed.
        """
        entry = self._entries.pop(number)
        self._spent -= entry.answered
        if entry.answered:
            self._failed[number] = entry
        else:
            self._verdicts.append(Verdict(number, None, None, ()))
        self._settle()

    def withdraw(self) -> None:
        """Forget all undecided candidates, because the time is up."""
        self._entries.clear()
        self._failed.clear()
        self._questions.clear()
        self._verdicts.clear()

    # --- what the search asks ------------------------------------------------------------------------------------

    def next_questions(self) -> list[tuple[int, Items | None]]:
        """Return the new questions, each once: a candidate's number and its items (None: all search items)."""
        questions, self._questions = self._questions, []
        return questions

    def verdicts(self) -> list[Verdict]:
        """Return the new verdicts, each once, in order of number."""
        verdicts, self._verdicts = self._verdicts, []
        return sorted(verdicts, key=lambda verdict: verdict.number)

    def answers_of(self, number: int) -> tuple[ItemScore, ...]:
        """Return all answers of an undecided candidate."""
        entry = self._entries.get(number) or self._failed.get(number)
        return () if entry is None else tuple(entry.scores)

    def judged(self, scores: Sequence[ItemScore], recipe: Recipe) -> tuple[Result, Score]:
        """Return result and score of a model that answered every search item.

        Raises:
            EvaluationError: if a metric is missing or not finite.
        """
        return self.judge.result(scores, Split.SEARCH, recipe), self.judge.score(scores)

    def difference_error(self, one: Sequence[ItemScore], other: Sequence[ItemScore], split: Split) -> float:
        """Return the standard error of the objective's difference between two models on the same items."""
        return self.judge.difference_error(one, other, split)

    def re_estimate(self, recipes: Mapping[int, Recipe]) -> dict[int, Result]:
        """Return the results of decided candidates, estimated anew from all that the run knows now.

        Args:
            recipes: the candidates' numbers and recipes.

        Returns:
            Number to result, without those whose estimate can no longer be judged; empty where every candidate answered
            every item, so that nothing new is known.
        """
        if self._whole or not self._known:
            return {}
        self._fit(list(self._known))
        found = {}
        for number, recipe in recipes.items():
            with contextlib.suppress(EvaluationError):
                found[number] = self.judge.result_of(self._means(*self._known[number]), recipe)
        return found

    # --- inside --------------------------------------------------------------------------------------------------

    def _new_estimators(self) -> list[RunEstimator]:
        return [make_run_estimator(self._estimator, self._seed) for _ in self._table.terms]

    def _prepare(self, first: int, late: Collection[int]) -> None:
        """Fit the estimators to the candidates before `first`, and choose the items of those from there on."""
        self._spent = self._turn = 0
        if self._whole:
            return
        if not self._references:
            raise EvaluationError(
                "no baseline could be scored on all search items, so a few answers say nothing about the rest; see "
                "run.log, or score every candidate on all items (fitness.items: null)"
            )
        self._fit([number for number in self._known if number < first and number not in late])
        self._order = self._common_order(first)

    def _fit(self, numbers: Sequence[int]) -> None:
        """Fit the estimators to the references, other models, and these candidates in order of number."""
        known = [self._known[number] for number in sorted(numbers)]
        for k, estimator in enumerate(self._estimators):
            references = self._reference_rows(k)
            seen: NDArray[np.bool_] = np.array(~np.isnan(references).all(axis=0))
            self._seen[k] = seen
            references = _completed(references[:, seen])
            others: list[Array | None] = [None] * len(self._others[k])
            answers = np.array([*self._others[k], *(rows[k] for _, rows in known)])
            points = [*others, *(point for point, _ in known)]
            estimator.fit(references, answers.reshape(-1, len(seen))[:, seen], points)

    def _reference_rows(self, k: int) -> Array:
        """Return the values of a term, `(n_references, n_task_items)`; NaN: not judged."""
        return np.array([rows[k] for _, rows in sorted(self._references.items(), reverse=True)])

    def _guess(self, k: int, point: Array | None, row: Array) -> Guess:
        """Estimate a term from its `(n_task_items,)` values, NaN where not answered or not judged."""
        seen = self._seen[k]
        guess = self._estimators[k].estimate(point, row[seen])
        if seen.all():
            return guess
        expected = np.full(len(seen), guess.mean)
        expected[seen] = guess.expected
        return Guess(guess.mean, guess.error, expected)

    def _means(self, point: Array | None, rows: Sequence[Array]) -> list[float]:
        """Return the estimated mean of each term."""
        return [self._guess(k, point, row).mean for k, row in enumerate(rows)]

    def _rows(self, scores: Sequence[ItemScore]) -> list[Array]:
        values = self.judge.answers(scores)
        return [self._table.row(term, values.get(term.name, {})) for term in self._table.terms]

    def _common_order(self, first: int) -> NDArray[np.int64]:
        seed = (self._seed, 1, first if self._fresh else 0)
        if self._choose == "uniform":
            return uniform_order(self._table.size, seed)
        if not self._fresh and self._choose == "stratified":
            level = self._level(fitted=False)
        else:
            level = self._level(fitted=True)
        return stratified_order(self._table.strata, level, seed)

    def _level(self, *, fitted: bool) -> Array:
        """Return the expected score on each item, `(n_items,)`: that of any candidate, or that of the references."""
        level = np.zeros(self._table.size)
        for k, term in enumerate(self._table.terms):
            here = self._table.columns(term)
            if fitted:
                n = len(self._table.items[term.task])
                level[here] += term.weight * self._guess(k, None, np.full(n, np.nan)).expected
            else:
                level[here] += term.weight * _column_means(self._reference_rows(k))
        return level

    def _give(self, entry: _Entry, n: int) -> None:
        """Ask a candidate about its next `n` items."""
        entry.outstanding = True
        if self._whole:
            self._questions.append((entry.number, None))
            return
        order = self._informative(entry) if self._choose == "information" else self._order
        asked = {(score.task, score.item) for score in entry.scores}
        fresh = [place for place in order.tolist() if self._table.keys[place] not in asked]
        self._questions.append((entry.number, self._table.named(fresh[:n])))

    def _informative(self, entry: _Entry) -> NDArray[np.int64]:
        expected = np.full(self._table.size, 0.5)
        for k, term in enumerate(self._table.terms):
            guess = self._guess(k, entry.point, entry.rows[k])
            expected[self._table.columns(term)] = np.clip(guess.expected, 0.0, 1.0)
        return information_order(self._table.strata, expected, (self._seed, 2, entry.number, entry.answered))

    def _settle(self) -> None:
        """Decide the candidates that can be decided, and let the race go on."""
        if self._race is None:
            for entry in [entry for entry in self._entries.values() if not entry.outstanding]:
                self._decide(entry)
            return
        complete = self.generation_full or self._closed
        if not complete or any(entry.outstanding for entry in self._entries.values()):
            return
        alive = [entry for entry in self._entries.values() if entry.error is None]
        contenders = [self._contender(entry) for entry in alive]
        left = self.items_per_candidate * len(self._entries) - self._spent
        given = next_blocks(self._race, contenders, left, self._table.size, self._turn)
        self._turn += 1
        for index, n in given.items():
            self._give(alive[index], n)
        if not given:
            self._verdicts += [Verdict(number, None, None, ()) for number in self._failed]
            self._failed = {}
            for entry in list(self._entries.values()):
                self._decide(entry)

    def _decide(self, entry: _Entry) -> None:
        del self._entries[entry.number]
        try:
            if entry.error is not None:
                raise EvaluationError(entry.error)
            whole = entry.answered == self._table.size
            if whole:
                result, score = self.judged(entry.scores, entry.recipe)
            else:
                result, score = self._estimated(entry)
        except EvaluationError as error:
            self._verdicts.append(Verdict(entry.number, None, None, (), str(error)))
            return
        answers = tuple(sorted(entry.scores, key=self._table.position))
        estimates = tuple(entry.estimates)
        self._verdicts.append(Verdict(entry.number, result, score, answers, estimates=estimates, whole=whole))

    def _guesses(self, entry: _Entry) -> list[Guess]:
        return [self._guess(k, entry.point, row) for k, row in enumerate(entry.rows)]

    def _contender(self, entry: _Entry) -> Contender:
        """Return a candidate as it stands in its race, by the sum of all objectives."""
        guesses = self._guesses(entry)
        mean, error = self.judge.estimate([guess.mean for guess in guesses], [guess.error for guess in guesses])
        if entry.answered < self._table.size:
            entry.note(mean, error)
        return Contender(mean + self.judge.of_recipe(entry.recipe), error, entry.answered)

    def _estimated(self, entry: _Entry) -> tuple[Result, Score]:
        """Return estimated result and score, whose 95 % interval like that of a mean covers items beyond the search's.

        Where a term is a share of right answers, its interval stays within 0 and 1.
        """
        guesses = self._guesses(entry)
        means = [guess.mean for guess in guesses]
        result = self.judge.result_of(means, entry.recipe)
        score = self.judge.estimated_score(lambda z: [_interval(guess, z) for guess in guesses])
        entry.note(*self.judge.estimate(means, [guess.error for guess in guesses]))
        return result, replace(score, n=entry.answered)


def _interval(guess: Guess, z: float) -> Score:
    """Return an estimated mean with its interval of the level of a z."""
    n, values = len(guess.expected), guess.expected
    inside = bool(((values >= 0.0) & (values <= 1.0)).all())
    spread = guess.mean * (1.0 - guess.mean) if inside else float(values.var())
    half = z * math.sqrt(guess.error**2 + max(spread, 0.0) / n)
    down, up = (min(half, max(guess.mean, 0.0)), min(half, max(1.0 - guess.mean, 0.0))) if inside else (half, half)
    return Score(guess.mean, guess.mean - down, guess.mean + up, n)


def _column_means(rows: Array) -> Array:
    """Return the mean of each column's values that are there; the mean of all of them for a column without any."""
    there = ~np.isnan(rows)
    if there.all():
        return np.mean(rows, axis=0)
    count = there.sum(axis=0)
    total = np.where(there, rows, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(rows.shape[1], float(rows[there].mean())), where=count > 0)


def _completed(rows: Array) -> Array:
    """Return the rows with each value that is missing replaced by the mean of its column."""
    return np.where(np.isnan(rows), _column_means(rows), rows)
