"""The choice of a run once more, on resampled validation items, by the rule that made it.

What `evomerge.search.winner.Finals` goes by is the item scores, the limits, and what `Finalist` holds; both call
`evomerge.record.first_of`. So what is estimated is the luck of the rule that chose: limits, several objectives, the
cost of a recipe, ties, and the consensus included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.evaluation.floor import Floor
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import ANSWER, WORST, Constraint
from evomerge.evaluation.worst import difference_error
from evomerge.record import Finalist, ItemScore, Split, Standing, first_of

Floats = NDArray[np.float64]


class Replay:
    """The rule by which the finalists of a run were put in order.

    Attributes:
        sizes: task to its number of validation items.

    Args:
        kind: of the run's choice.
        finalists: in any order; rows of what follows are in this order.
        consensus: for each finalist, whether it is the consensus.
        answers: the item scores of each finalist on the same validation items.
        baselines: the item scores of each baseline on the validation items, for the guard of the entropy.

    Raises:
        EvaluationError: if the items were scored under other objectives.
    """

    def __init__(
        self,
        objectives: Objectives,
        kind: str,
        finalists: Sequence[Finalist],
        consensus: Sequence[bool],
        answers: Sequence[Sequence[ItemScore]],
        baselines: Sequence[Sequence[ItemScore]] = (),
    ) -> None:
        self._kind, self._finalists, self._consensus = kind, list(finalists), list(consensus)
        tasks = list(dict.fromkeys(spec.name for spec in objectives.specs))
        places = {task: sorted({score.item for score in answers[0] if score.task == task}) for task in tasks}
        self.sizes = {task: len(items) for task, items in places.items()}
        found = [objectives.answers(rows, Split.VALIDATION) for rows in answers]
        self._terms: list[tuple[str, float, Constraint | None, Floats]] = [
            (
                spec.name,
                weight,
                spec.constraint,
                np.array([[own[name].get(item, math.nan) for item in places[spec.name]] for own in found]),
            )
            for name, spec, weight in zip(objectives.term_names, objectives.specs, objectives.weights, strict=True)
        ]
        self._worst = objectives.combination == WORST
        self._ratios = [objectives.ratios(rows, Split.VALIDATION) for rows in answers] if self._worst else []
        self._floors: list[tuple[str, Floor, Floats, Floats | None]] = []
        parents = objectives.parent_answers(Split.VALIDATION) if objectives.compares_with_parents else {}
        for (task, _, _, values), name, spec in zip(self._terms, objectives.term_names, objectives.specs, strict=True):
            if spec.floor is not None:
                every = parents[name].values() if spec.floor.is_relative else ()
                own = np.array([[one.get(item, math.nan) for item in places[task]] for one in every])
                self._floors.append((task, spec.floor, values, own if spec.floor.is_relative else None))
        self._skills: list[tuple[str, float, Floats, Floats]] = []
        if self._worst:
            for name, spec, (task, weight, _, values) in zip(
                objectives.term_names, objectives.specs, self._terms, strict=True
            ):
                rivals = [[one.get(item, math.nan) for item in places[task]] for one in parents[name].values()]
                if spec.weight > 0.0:
                    self._skills.append((task, math.copysign(1.0, weight), values, np.array(rivals)))
        self._guards: list[tuple[str, float, list[Floats], list[Floats]]] = [
            (task, margin, _shares(task, places[task], answers), _shares(task, places[task], baselines))
            for task, margin in objectives.guarded
        ]

    def __call__(self, counts: Mapping[str, Floats]) -> NDArray[np.intp]:
        """Return the row of the finalist that is chosen in each draw, `(draws,)`.

        Args:
            counts: task to `(draws, n_items)`, how often each item was drawn.
        """
        draws = len(next(iter(counts.values())))
        scores = np.zeros((draws, len(self._finalists)))
        violations = np.zeros_like(scores)
        for task, weight, constraint, values in self._terms:
            means = _means(values, counts[task])
            if weight and not self._worst:
                scores += weight * means
            if constraint is not None:
                violations += np.vectorize(constraint.violation, otypes=[float])(means)
        if self._worst:
            scores = np.min(
                [self._relative(sign, own, every, counts[task]) for task, sign, own, every in self._skills], axis=0
            )
        for task, floor, values, parents in self._floors:
            means = _means(values, counts[task])
            best = [None] * draws if parents is None else _means(parents, counts[task]).max(axis=1).tolist()
            violations += [
                [floor.violation(mean, level) for mean in row] for row, level in zip(means.tolist(), best, strict=True)
            ]
        for task, margin, own, others in self._guards:
            limit = np.max([_commonest(one, counts[task]) for one in others], axis=0) + margin
            share = np.stack([_commonest(one, counts[task]) for one in own], axis=1)
            violations += np.maximum(0.0, share / limit[:, None] - 1.0)
        # Equal scores are equal, whatever the order of their sums.
        scores = np.round(scores + [one.added for one in self._finalists], 12)
        return np.array([self._first(counts, i, scores[i], violations[i]) for i in range(draws)], dtype=np.intp)

    @staticmethod
    def _relative(sign: float, values: Floats, parents: Floats, counts: Floats) -> Floats:
        """Return the means of an entry relative to each draw's best parent, `(draws, models)` (`floor.relative`)."""
        best = sign * (sign * _means(parents, counts)).max(axis=1, keepdims=True)
        unit = np.where(best == 0.0, 1.0, np.abs(best))
        return np.asarray(1.0 + sign * (_means(values, counts) - best) / unit)

    def _first(self, counts: Mapping[str, Floats], draw: int, scores: Floats, violations: Floats) -> int:
        standings = [
            Standing(one, float(score), float(violation), consensus)
            for one, score, violation, consensus in zip(
                self._finalists, scores, violations, self._consensus, strict=True
            )
        ]

        def doubtful(winner: Standing, consensus: Standing) -> bool:
            rows = standings.index(winner), standings.index(consensus)
            return winner.score - consensus.score <= self._error(counts, draw, *rows)

        return standings.index(first_of(self._kind, standings, doubtful))

    def _error(self, counts: Mapping[str, Floats], draw: int, one: int, other: int) -> float:
        """Return the standard error of a paired difference in one draw (as `Scoring.difference_error`)."""
        if self._worst:
            pair = [
                [
                    replace(ratio, values=np.repeat(ratio.values, n), best=np.repeat(ratio.best, n))
                    for ratio in self._ratios[row]
                    for n in (counts[ratio.task][draw].astype(int),)
                ]
                for row in (one, other)
            ]
            return difference_error(*pair)
        variance = 0.0
        for task, weight, _, values in self._terms:
            gaps = values[one] - values[other]
            both = ~np.isnan(gaps)
            gaps, drawn = gaps[both], counts[task][draw][both]
            n = float(drawn.sum())
            if weight and n > 1.0:
                mean = float(drawn @ gaps) / n
                variance += weight**2 * float(drawn @ (gaps - mean) ** 2) / (n - 1.0) / n
        return math.sqrt(variance)


def _shares(task: str, items: Sequence[int], models: Sequence[Sequence[ItemScore]]) -> list[Floats]:
    """Return for each model `(n_answers, n_items)`, 1 where it gave that answer; without its items, nothing."""
    found = []
    for rows in models:
        given: dict[int, Any] = {
            score.item: score.metrics[ANSWER] for score in rows if score.task == task and ANSWER in score.metrics
        }
        kinds = sorted(set(given.values()))
        if kinds:
            found.append(np.array([[float(given.get(item) == kind) for item in items] for kind in kinds]))
    return found


def _means(values: Floats, counts: Floats) -> Floats:
    """Return the means over the judged items of each draw, `(draws, models)`; of all, where none of them was drawn."""
    judged = ~np.isnan(values)
    drawn = counts @ judged.T
    means = counts @ np.where(judged, values, 0.0).T / np.maximum(drawn, 1.0)
    return np.where(drawn > 0.0, means, np.nanmean(values, axis=1))


def _commonest(answers: Floats, counts: Floats) -> Floats:
    """Return the share of the commonest answer in each draw, `(draws,)`."""
    given = counts @ answers.T
    return np.asarray(given.max(axis=1) / np.maximum(given.sum(axis=1), 1.0))
