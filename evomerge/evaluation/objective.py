"""What a search improves: one or more objectives, each a weighted sum of terms, and limits that must be kept.

    objective_o = sum_k  w_k / sum_j w_j  *  s_k  *  mean_i metric_k(i),     s_k = +1 to maximize, -1 to minimize

over the entries k that name the objective o; the entries that name none share one. Or the one objective is the worst
of the entries with a weight, each relative to its best parent (`worst`); their weights play no further part then. The
direction of an objective is fixed here: everywhere else larger is better. With one entry to maximize, the objective is
its mean; with one to minimize, minus its mean. Metrics are not rescaled: entries on different scales (an accuracy, a
number of tokens) need
weights that say what a unit of each is worth. Several entries may measure the same task, whose items are then scored
once. A number of the recipe itself, such as its layers, is a term like any other (`RecipeTerm`).

**Limits.** An entry with a constraint is no term of an objective; its mean must keep the limit. By how much it exceeds
the limit, in units of the limit (Deb 2000 normalises likewise), is the violation of the result. `score` reports the
plain sum all the same. A floor (`floor.Floor`) is a limit on the mean of an entry that keeps its weight; where it is
relative to the best parent, that is the best on the same items (`best_parent.Parents`), or on all search items where
the means are estimated.

**Items that are not judged.** An item may lack a metric, because lm-eval's `nanmean` leaves it out or the task says
nothing of it. The mean is that of the others. Models are compared on the items that both have.

**Baselines.** Some entries compare with models that were scored before (`note_baseline`): negative flips, which are the
items that a reference has right and the candidate has wrong (Yan et al., arXiv 2011.09161: their mean is the negative
flip rate), answers in a script in which no parent answered the item (`scripts`), and the guard of the entropy, which
allows the commonest answer the largest share that it has with any baseline, plus a margin.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evomerge.errors import ConfigError, EvaluationError
from evomerge.evaluation.best_parent import BestParent, Parents
from evomerge.evaluation.collapse import collapse, is_guarded, margin_of
from evomerge.evaluation.floor import relative
from evomerge.evaluation.intervals import Z, mean_score, standard_error, weighted_sum
from evomerge.evaluation.item_values import is_right, judged, means_of, nothing_judged, together, value_of
from evomerge.evaluation.scripts import KnownScripts
from evomerge.evaluation.task import (
    FOREIGN_SCRIPT,
    NEGATIVE_FLIPS,
    SUM,
    WORST,
    TaskSpec,
    combination_problems,
    shared,
    spec_problems,
)
from evomerge.evaluation.worst import Ratio, difference_error, estimated_ratio, smallest, upper_z, worst, worst_score
from evomerge.record import INFEASIBLE, ItemScore, Objective, Result, Score, Split

if TYPE_CHECKING:
    from evomerge.recipe import Recipe

SCORE = "score"
"""Name of the objective of the entries that name none."""


@dataclass(frozen=True)
class RecipeTerm:
    """A number of the recipe itself as a term of every objective.

    Attributes:
        name: what the number is called.
        weight: what one unit adds to an objective; signed.
        of: returns the number of a recipe.
    """

    name: str
    weight: float
    of: Callable[[Recipe], float]


class Objectives:
    """Turns the item scores of a candidate into its result and its score.

    Attributes:
        specs: the entries, each with its direction.
        objectives: the objectives, in the order in which the entries first name them.
        weights: signed weights `s_k w_k / sum_j w_j` in the sum of all entries, in the order of `specs`; 0 for
            constraints.
        recipe_terms: numbers of the recipe that are terms of every objective.
        combination: `SUM`, or `WORST` where the objective is the worst entry relative to its best parent.
    """

    def __init__(
        self,
        specs: Sequence[TaskSpec],
        recipe_terms: Sequence[RecipeTerm] = (),
        *,
        parents: Sequence[str] = (),
        combination: str = SUM,
    ) -> None:
        """Take specs whose directions are known, such as `LmHarness.specs`.

        Args:
            specs: the entries.
            recipe_terms: see the attribute.
            parents: the names of the baselines that are parents, to the best of which floors and `WORST` are relative,
                and whose answers say which scripts are foreign.
            combination: see the attribute.

        Raises:
            ConfigError: on a bad weight or option, or an unknown direction, or if the parents are needed and not given.
        """
        problems = spec_problems(specs)
        problems += combination_problems(specs, combination)
        if combination == WORST and not parents:
            problems.append("the worst task is relative to its best parent, but no parents are given")
        problems += [
            f"task {spec.name!r}: its floor is relative to the best parent, but no parents are given"
            for spec in specs
            if spec.floor is not None and spec.floor.is_relative and not parents
        ]
        problems += [
            f"task {spec.name!r}: {FOREIGN_SCRIPT!r} is told by the parents' answers, but no parents are given"
            for spec in specs
            if spec.metric == FOREIGN_SCRIPT and not parents
        ]
        problems += [
            f"task {spec.name!r}: the objective needs a direction, 'maximize' or 'minimize'"
            for spec in specs
            if spec.direction is None
        ]
        if problems:
            raise ConfigError(problems)
        self.specs = shared(specs)
        self.combination = combination
        self.recipe_terms = tuple(recipe_terms)
        total = math.fsum(spec.weight for spec in specs)
        self.weights = self._signed(total, lambda spec: True)
        groups: dict[str, list[TaskSpec]] = {}
        for spec in self.specs:
            if spec.weight > 0.0:
                groups.setdefault(spec.objective or SCORE, []).append(spec)
        sums = {name: math.fsum(spec.weight for spec in group) for name, group in groups.items()}
        self.objectives = tuple(
            Objective(name, "minimize" if _all_minimized(group) else "maximize", sums[name] / total)
            for name, group in groups.items()
        )
        self._shares = {
            name: self._signed(sums[name], lambda spec, name=name: (spec.objective or SCORE) == name)  # type: ignore[misc]
            for name in groups
        }
        self._counting = [place for place, spec in enumerate(self.specs) if spec.weight > 0.0]
        if combination == WORST:
            self.objectives = (Objective(WORST, "maximize"),)
        self._tasks = tuple(dict.fromkeys(spec.name for spec in self.specs))
        self._baselines: dict[Split, dict[str, dict[tuple[str, int], Mapping[str, float]]]] = {}
        self._parents = Parents(parents, self._value)
        self._scripts: dict[Split, KnownScripts] = {}

    @property
    def term_names(self) -> tuple[str, ...]:
        """A name for each of `specs`, all different."""
        return tuple(spec.label if spec.constraint is None else f"{spec.label} (limit)" for spec in self.specs)

    @property
    def references(self) -> tuple[str, ...]:
        """The baselines that models are compared with by name; they must be noted before any model is judged.

        Those that entries name; all parents where a limit is relative to the best of them, or foreign scripts count.
        """
        named = [spec.reference for spec in self.specs if spec.reference is not None]
        return tuple(
            dict.fromkeys(
                [*named, *(self._parents.names if self.compares_with_parents or self._asks_for_scripts else ())]
            )
        )

    @property
    def compares_with_parents(self) -> bool:
        """Whether models are measured by the best parent of each entry, so that all parents must be noted."""
        return self.combination == WORST or any(one.floor is not None and one.floor.is_relative for one in self.specs)

    @property
    def compares(self) -> bool:
        """Whether candidates are compared with any baseline, by its name or with all of them."""
        return bool(self.references) or self._asks_for_scripts or any(map(is_guarded, self.specs))

    @property
    def _asks_for_scripts(self) -> bool:
        return any(spec.metric == FOREIGN_SCRIPT for spec in self.specs)

    def note_baseline(self, name: str, split: Split, scores: Sequence[ItemScore]) -> None:
        """Remember a baseline's scores, with which models are compared; call it before judging the baseline itself."""
        rows = self._baselines.setdefault(split, {}).setdefault(name, {})
        new = {(score.task, score.item): score.metrics for score in scores}
        if new.items() <= rows.items():
            return  # known already, and so is what follows from it
        rows.update(new)
        self._parents.forget()
        if self._asks_for_scripts and name in self._parents.names:
            self._scripts.setdefault(split, KnownScripts()).note(scores)

    def result(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH, recipe: Recipe | None = None) -> Result:
        """Return what a strategy is told of a candidate that answered every item.

        Args:
            scores: the candidate's item scores.
            split: the split of the items.
            recipe: the candidate's recipe; needed where there are recipe terms.

        Raises:
            EvaluationError: if a task has no items, none of them has a metric, or one has a value that is not finite
                (or beyond `LARGEST`), or a baseline that an entry compares with was not noted; if an objective is not a
                number; or if there are limits and an objective lies below `-INFEASIBLE`.
        """
        means = means_of(self._values(scores, split))
        plain = worst(self.ratios(scores, split)) if self.combination == WORST else None
        return self._result(means, list(self._broken(means, scores, split)), recipe, plain)

    def result_of(self, means: Sequence[float], recipe: Recipe | None = None) -> Result:
        """Return the result of a candidate whose means are known, or estimated, in the order of `specs`.

        The guard of the entropy takes no part, since it needs the answers themselves. The best parents are those on all
        search items.

        Raises:
            EvaluationError: as `result` for the objectives.
        """
        plain = min(self._relative(means)) if self.combination == WORST else None
        return self._result(means, [*self._beyond(means), *self._below(means, Split.SEARCH, None)], recipe, plain)

    def estimate(self, means: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
        """Return the sum of the objectives (without recipe terms) of estimated means, and its standard error.

        Of the worst entry the error is the largest of those that may be the worst: within 1.96 errors of it.

        Args:
            means: in the order of `specs`, over all search items.
            errors: the standard error of each.
        """
        if self.combination == SUM:
            value = math.fsum(w * mean for w, mean in zip(self.weights, means, strict=True))
            return value, math.hypot(*(w * error for w, error in zip(self.weights, errors, strict=True)))
        ratios, units = self._relative(means), self._units()
        own = [errors[place] / unit for place, unit in zip(self._counting, units, strict=True)]
        least = min(ratios)
        return least, max(error for ratio, error in zip(ratios, own, strict=True) if ratio - Z * error <= least)

    def estimated_score(self, terms: Callable[[float], Sequence[Score]]) -> Score:
        """Return the sum of the objectives (without recipe terms) of estimated means with its 95 % interval.

        The intervals of a weighted sum are combined by MOVER (`intervals.weighted_sum`); for the worst entry see
        `worst.estimated_ratio`.

        Args:
            terms: returns the mean of each of `specs` with its interval of the level of a z.
        """
        if self.combination == SUM:
            return weighted_sum(terms(Z), self.weights)
        best = [self._best_parent(place, Split.SEARCH, None).values for place in self._counting]

        def at(z: float) -> list[Score]:
            own = terms(z)
            return [
                estimated_ratio(own[place], mean_score(list(values.values()), z=z), self._sign(place))
                for place, values in zip(self._counting, best, strict=True)
            ]

        return smallest(at(Z), at(upper_z(Z, len(best))))

    def difference_error(
        self, one: Sequence[ItemScore], other: Sequence[ItemScore], split: Split = Split.SEARCH
    ) -> float:
        """Return the standard error of the difference of two models' scores on the same items.

        Raises:
            EvaluationError: as `result`.
        """
        if self.combination == WORST:
            return difference_error(self.ratios(one, split), self.ratios(other, split))
        first, second = self.answers(one, split), self.answers(other, split)
        variance = 0.0
        for name, weight in zip(self.term_names, self.weights, strict=True):
            a, b = first.get(name, {}), second.get(name, {})
            gaps = [a[item] - b[item] for item in a if item in b]
            if len(gaps) > 1:
                mean = math.fsum(gaps) / len(gaps)
                variance += (weight * standard_error(gaps, mean)) ** 2
        return math.sqrt(variance)

    def _relative(self, means: Sequence[float]) -> list[float]:
        """Return the means of the entries with a weight relative to the best parents on all search items."""
        best = [self._best_parent(place, Split.SEARCH, None).mean for place in self._counting]
        return [
            relative(means[place], level, self._sign(place)) for place, level in zip(self._counting, best, strict=True)
        ]

    def _units(self) -> list[float]:
        """Return what a unit of each ratio is in the metric's own units."""
        return [abs(self._best_parent(place, Split.SEARCH, None).mean) or 1.0 for place in self._counting]

    def _sign(self, place: int) -> float:
        return -1.0 if self.specs[place].direction == "minimize" else 1.0

    def ratios(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH) -> list[Ratio]:
        """Return the entries with a weight relative to their best parents, on the items that are judged for both.

        Raises:
            EvaluationError: if there are none in some entry, or a parent was not scored there.
        """
        return self.ratios_of(self.task_values(scores, split), split)

    def ratios_of(self, values: Mapping[str, Mapping[int, float]], split: Split) -> list[Ratio]:
        """Return the same of values as `task_values` returns them where the objective is the worst entry."""
        found, names = [], self.term_names
        for place in self._counting:
            spec, own = self.specs[place], values[names[place]]
            best = self._best_parent(place, split, own).values
            items = [item for item in sorted(own.keys() & best.keys()) if not math.isnan(own[item])]
            if not items:
                raise EvaluationError(
                    f"task {spec.name!r}: no item has a value of {spec.metric!r} for both the model and its best parent"
                )
            pairs = np.array([(own[item], best[item]) for item in items])
            found.append(Ratio(spec.name, pairs[:, 0], pairs[:, 1], self._sign(place)))
        return found

    def of_recipe(self, recipe: Recipe) -> float:
        """Return what the recipe itself adds to every objective (usually a cost, below 0)."""
        total = 0.0
        for term in self.recipe_terms:
            total += term.weight * term.of(recipe)
        return total

    def score(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH, objective: str | None = None) -> Score:
        """Return the score with its 95 % interval (see `intervals`, `worst`), and the number of items behind it.

        It is a weighted sum of metrics, or the worst entry relative to its best parent.

        Constraints and recipe terms do not count. Entries of one task are measured on the same items, so they are added
        up item by item, which keeps their correlation; tasks are independent.

        Args:
            scores: the model's item scores.
            split: the split of the items.
            objective: the name of one objective; None: the sum of all entries.

        Raises:
            EvaluationError: as `result`.
        """
        if self.combination == WORST:
            self._values(scores, split)  # refuses what nothing can be said of
            return worst_score(self.ratios(scores, split))
        weights = self.weights if objective is None else self._shares[objective]
        parts = self._parts(self._values(scores, split), weights)
        if objective is not None:
            parts = [(part, w) for part, w in parts if w != 0.0]
        return weighted_sum([mean_score(judged(part)) for part, _ in parts], [w for _, w in parts])

    def violated(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH) -> list[str]:
        """Return the limits that a candidate breaks, one sentence each; none if it is feasible.

        Raises:
            EvaluationError: as `result`.
        """
        means = means_of(self._values(scores, split))
        return [text for _, text in self._broken(means, scores, split)]

    def answers(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH) -> dict[str, dict[int, float]]:
        """Return each entry's values item by item; tasks without items have none, nor have items that are not judged.

        Returns:
            Name of the entry (`term_names`) to item to value, in the metric's own unit and direction.

        Raises:
            EvaluationError: as `result`.
        """
        rows = self._by_task(scores)
        return {
            name: {
                score.item: value
                for score in rows[spec.name]
                if not math.isnan(value := self._value(spec, score, split))
            }
            for name, spec in zip(self.term_names, self.specs, strict=True)
        }

    def _by_task(self, scores: Sequence[ItemScore]) -> dict[str, list[ItemScore]]:
        """Return the item scores of each task, in the order in which they came; those of other tasks are left out."""
        rows: dict[str, list[ItemScore]] = {name: [] for name in self._tasks}
        for score in scores:
            if score.task in rows:
                rows[score.task].append(score)
        return rows

    @property
    def guarded(self) -> tuple[tuple[str, float], ...]:
        """The task and the margin of each entry whose entropy may be low by giving one answer to everything."""
        return tuple((spec.name, margin_of(spec)) for spec in self.specs if is_guarded(spec))

    @property
    def task_weights(self) -> dict[str, float]:
        """Signed weight of each task's `task_values` in the sum; 1 where several entries are added up already.

        Of the worst entry: the sign of each entry with a weight, 1 to maximize and -1 to minimize, by its name.
        """
        if self.combination == WORST:
            return {self.term_names[place]: self._sign(place) for place in self._counting}
        counts = Counter(spec.name for spec, w in zip(self.specs, self.weights, strict=True) if w != 0.0)
        own = {spec.name: w for spec, w in zip(self.specs, self.weights, strict=True) if w != 0.0}
        return {name: 1.0 if counts[name] > 1 else own.get(name, 0.0) for name in self._tasks}

    def task_values(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH) -> dict[str, dict[int, float]]:
        """Return one value per item, so that the weighted sum is the sum over tasks of `task_weights` times their mean.

        If one entry of a task has a weight, the value is that entry's; if several have, it is their weighted sum. Tasks
        without items have no values; NaN: an item that is not judged, so that the mean is that of the others. Of the
        worst entry, these are the values of each entry with a weight, by its name.

        Raises:
            EvaluationError: as `result`.
        """
        found: dict[str, dict[int, float]] = {}
        rows = self._by_task(scores)
        if self.combination == WORST:
            names = self.term_names
            for place in self._counting:
                spec = self.specs[place]
                found[names[place]] = {score.item: self._value(spec, score, split) for score in rows[spec.name]}
            return found
        for name, mine in rows.items():
            specs = [(s, w) for s, w in zip(self.specs, self.weights, strict=True) if s.name == name]
            values = [[self._value(spec, score, split) for score in mine] for spec, _ in specs]
            part, _ = together(values, [w for _, w in specs])
            found[name] = dict(zip([score.item for score in mine], part, strict=True))
        return found

    def _values(self, scores: Sequence[ItemScore], split: Split) -> list[list[float]]:
        """Return for each spec the values of its task's items, in the order in which they came; NaN: not judged."""
        rows: dict[str, list[ItemScore]] = {name: [] for name in self._tasks}
        for score in scores:
            if score.task not in rows:
                raise EvaluationError(
                    f"an item of task {score.task!r} came, but the objective has the tasks {', '.join(self._tasks)}"
                )
            rows[score.task].append(score)
        for name, found in rows.items():
            if not found:
                raise EvaluationError(f"task {name!r} has no scored items, so the objective is undefined")
        values = [[self._value(spec, score, split) for score in rows[spec.name]] for spec in self.specs]
        for spec, own in zip(self.specs, values, strict=True):
            if all(map(math.isnan, own)):
                raise EvaluationError(nothing_judged(spec, rows[spec.name]))
        return values

    def _value(self, spec: TaskSpec, score: ItemScore, split: Split) -> float:
        """Return the value of an item, NaN where it is not judged."""
        if spec.metric == FOREIGN_SCRIPT and FOREIGN_SCRIPT not in score.metrics:
            if split not in self._scripts:
                raise EvaluationError(
                    f"task {spec.name!r}: {FOREIGN_SCRIPT!r} is told by the parents' {split} answers, but none was "
                    "scored before"
                )
            return self._scripts[split].foreign(score)
        if spec.metric != NEGATIVE_FLIPS:
            return value_of(spec, spec.metric, score)
        assert spec.reference is not None and spec.of is not None  # checked with the specs
        noted = self._baselines.get(split, {}).get(spec.reference)
        if noted is None:
            raise EvaluationError(
                f"task {spec.name!r}: negative flips against {spec.reference!r} need its {split} scores, but it "
                "was not scored before"
            )
        if (score.task, score.item) not in noted:
            raise EvaluationError(
                f"task {spec.name!r}, item {score.item}: negative flips need the score of {spec.reference!r}, which "
                "was not scored on this item"
            )
        before = is_right(spec, ItemScore(score.task, score.item, noted[score.task, score.item]))
        now = is_right(spec, score)
        return math.nan if before is None or now is None else float(before and not now)

    def _signed(self, total: float, counts: Callable[[TaskSpec], bool]) -> tuple[float, ...]:
        """Return the signed weights of the specs that count, divided by a total; 0 for the others."""
        return tuple(
            (1.0 if spec.direction == "maximize" else -1.0) * spec.weight / total if counts(spec) else 0.0
            for spec in self.specs
        )

    def _parts(
        self, values: Sequence[Sequence[float]], weights: Sequence[float]
    ) -> list[tuple[Sequence[float], float]]:
        """Return for each task the values of its items and their weight in the sum."""
        return [
            together(
                [own for spec, own in zip(self.specs, values, strict=True) if spec.name == name],
                [w for spec, w in zip(self.specs, weights, strict=True) if spec.name == name],
            )
            for name in self._tasks
        ]

    def _result(
        self,
        means: Sequence[float],
        violations: Sequence[tuple[float, str]],
        recipe: Recipe | None,
        plain: float | None = None,
    ) -> Result:
        """Return objectives, violation and measures of these means (in the order of `specs`).

        Args:
            plain: the one objective without recipe terms; None: the objectives are weighted sums of the means.
        """
        measures = dict(zip(self.term_names, means, strict=True))
        if recipe is not None:
            measures |= {term.name: term.of(recipe) for term in self.recipe_terms}
        values = []
        sums = [math.fsum(w * mean for w, mean in zip(one, means, strict=True)) for one in self._shares.values()]
        for value in sums if plain is None else [plain]:
            for term in self.recipe_terms:
                value += term.weight * measures[term.name]
            values.append(value)
        if not all(map(math.isfinite, values)):
            what = "not a number (NaN)" if any(map(math.isnan, values)) else "infinite"
            raise EvaluationError(f"the objective is {what} on the search items")
        limited = any(spec.constraint or spec.floor or is_guarded(spec) for spec in self.specs)
        if limited and not violations and min(values) < -INFEASIBLE:
            raise EvaluationError(
                f"the objective is {min(values):g}, but with limits it must stay above {-INFEASIBLE:g}, where "
                "infeasible candidates begin; measure in larger units"
            )
        return Result(tuple(values), math.fsum(violation for violation, _ in violations), measures)

    def _broken(self, means: Sequence[float], scores: Sequence[ItemScore], split: Split) -> Iterator[tuple[float, str]]:
        """Yield, for each limit that a model breaks, the excess in units of the limit, and a sentence."""
        yield from self._beyond(means)
        yield from self._below(means, split, scores)
        for spec in filter(is_guarded, self.specs):
            yield from collapse(spec, scores, self._baselines.get(split, {}), split)

    def _beyond(self, means: Sequence[float]) -> Iterator[tuple[float, str]]:
        """Yield, for each broken constraint, the excess in units of the limit, and a sentence."""
        for spec, mean in zip(self.specs, means, strict=True):
            if spec.constraint is not None and (beyond := spec.constraint.violation(mean)) > 0.0:
                yield beyond, f"{spec.label} is {mean:.4g}, but must be {spec.constraint}"

    def _below(
        self, means: Sequence[float], split: Split, scores: Sequence[ItemScore] | None
    ) -> Iterator[tuple[float, str]]:
        """Yield the same for each floor; without scores, the best parents are those on all items of the split."""
        rows = None if scores is None else self._by_task(scores)
        for place, (spec, mean) in enumerate(zip(self.specs, means, strict=True)):
            floor = spec.floor
            if floor is None:
                continue
            items = None if rows is None else {score.item for score in rows[spec.name]}
            best = self._best_parent(place, split, items) if floor.is_relative else None
            level = None if best is None else best.mean
            if (beyond := floor.violation(mean, level)) > 0.0:
                why = "" if best is None else f" ({floor.text(best.name, best.mean)})"
                yield beyond, f"{spec.label} is {mean:.4g}, below its floor of {floor.limit(level):.4g}{why}"

    def _best_parent(self, place: int, split: Split, items: Collection[int] | None) -> BestParent:
        """Return the best parent of an entry on these items (None: on all of the split)."""
        return self._parents.best(place, self.specs[place], split, self._baselines.get(split, {}), items)

    def parent_answers(self, split: Split) -> dict[str, Mapping[str, Mapping[int, float]]]:
        """Return name of an entry to parent to item to value, of the items that are judged; parents must be noted.

        Raises:
            EvaluationError: if a parent was not scored there.
        """
        noted = self._baselines.get(split, {})
        return {
            name: self._parents.values(place, spec, split, noted)
            for place, (name, spec) in enumerate(zip(self.term_names, self.specs, strict=True))
        }


def _all_minimized(specs: Sequence[TaskSpec]) -> bool:
    return all(spec.direction == "minimize" for spec in specs)
