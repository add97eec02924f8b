"""An objective for searches whose models are made up: the share of right answers, as `Objectives` would give it."""

from __future__ import annotations

import numpy as np

from evomerge.record import Score, Split


class Accuracy:
    """The mean over tasks of the mean of "acc"; nothing is compared with a baseline, and there are no limits."""

    references = ()

    def note_baseline(self, name, split, scores) -> None:
        pass

    def violated(self, scores, split=Split.SEARCH) -> list[str]:
        return []

    def answers(self, scores, split=Split.SEARCH):
        found: dict[str, dict[int, float]] = {}
        for score in scores:
            found.setdefault(score.task, {})[score.item] = score.metrics["acc"]
        return found

    def fitness(self, scores, split=Split.SEARCH) -> float:
        return float(np.mean([np.mean(list(values.values())) for values in self.answers(scores).values()]))

    def fitness_of(self, means) -> float:
        return float(np.mean(means))

    def score(self, scores, split=Split.SEARCH) -> Score:
        return Score(self.fitness(scores), 0.0, 1.0, len(scores))
