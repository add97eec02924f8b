"""An objective for searches whose models are made up: the share of right answers, as `Objectives` would give it."""

from __future__ import annotations

import numpy as np

from evomerge.evaluation.intervals import weighted_sum
from evomerge.record import Objective, Result, Score, Split


class Accuracy:
    """The mean over tasks of the mean of "acc"; nothing is compared with a baseline, and there are no limits."""

    references = ()
    objectives = (Objective("score", "maximize"),)

    def __init__(self, recipe_terms=()) -> None:
        self.recipe_terms = recipe_terms

    def note_baseline(self, name, split, scores) -> None:
        pass

    def violated(self, scores, split=Split.SEARCH) -> list[str]:
        return []

    def answers(self, scores, split=Split.SEARCH):
        found: dict[str, dict[int, float]] = {}
        for score in scores:
            found.setdefault(score.task, {})[score.item] = score.metrics["acc"]
        return found

    def result(self, scores, split=Split.SEARCH, recipe=None) -> Result:
        means = [np.mean(list(values.values())) for values in self.answers(scores).values()]
        return self.result_of(means, recipe)

    def result_of(self, means, recipe=None) -> Result:
        return Result((float(np.mean(means)) + self.of_recipe(recipe),))

    def estimate(self, means, errors):
        return float(np.mean(means)), float(np.hypot.reduce(errors)) / len(errors)

    def estimated_score(self, terms) -> Score:
        own = terms(1.96)
        return weighted_sum(own, [1.0 / len(own)] * len(own))

    def difference_error(self, one, other, split=Split.SEARCH) -> float:
        gaps = [
            np.array([values[item] - self.answers(other)[task][item] for item in values])
            for task, values in self.answers(one).items()
        ]
        return float(np.sqrt(sum(gap.var(ddof=1) / len(gap) for gap in gaps if len(gap) > 1))) / len(gaps)

    def of_recipe(self, recipe) -> float:
        return sum((term.weight * term.of(recipe) for term in self.recipe_terms), 0.0)

    def score(self, scores, split=Split.SEARCH) -> Score:
        means = [np.mean(list(values.values())) for values in self.answers(scores).values()]
        return Score(float(np.mean(means)), 0.0, 1.0, len(scores))
