"""Workers and spaces that cost nothing, so that only what is around them is measured."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.execution.base import StopSignal, Worker
from evomerge.execution.pool.actor import WorkerContext
from evomerge.genome.space import Gene, GeneSpace
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Job, Objective, Outcome, Result, Score, Split, State

N_ITEMS = 100


def answer(job: Job) -> Outcome:
    """Right on as many items as the recipe's hash says."""
    right = int(job.recipe.content_hash[:4], 16) % N_ITEMS
    scores = tuple(ItemScore("t", i, {"acc": float(i < right)}) for i in range(N_ITEMS))
    return Outcome(job, State.COMPLETE, scores, 0.0, "cpu")


@dataclass(frozen=True)
class Idle(Worker):
    """Makes workers that answer at once.

    Attributes:
        libraries: whether they load what a real worker loads.
    """

    libraries: bool = False

    def __call__(self, stop: StopSignal, context: WorkerContext) -> Idle:
        """Return itself: it works, too."""
        if self.libraries:
            import datasets  # noqa: F401
            import lm_eval.tasks  # noqa: F401
            import numba  # noqa: F401
            import transformers.models.llama.modeling_llama  # noqa: F401

            import evomerge.assembly.ray_workers  # noqa: F401
        return self

    def run(self, job: Job) -> Outcome:
        """Answer."""
        return answer(job)


class IdleSpace(GeneSpace):
    """As many weights as dimensions."""

    def __init__(self, n_dims: int) -> None:
        self._genes = tuple(Gene(f"weight.p{i}", 0.0, 1.0, 0.5) for i in range(n_dims))

    def genome(self, x: NDArray[np.float64]) -> tuple[float, ...]:
        """Return the point."""
        return tuple(x.tolist())

    def decode(self, genome: tuple[float, ...]) -> Recipe:
        """Return a recipe with a group of its own for each gene."""
        parents = tuple(Parent(f"p{i}", ModelSource(f"p{i}")) for i in range(len(genome)))
        return Recipe("linear", parents, parameters={"weight": {f"p{i}": value for i, value in enumerate(genome)}})


class IdleJudge:
    """The share of right answers: an `evomerge.fitness.scoring.Judge` without limits or references."""

    objectives: Sequence[Objective] = (Objective("t", "maximize"),)
    references: Collection[str] = ()

    def note_baseline(self, name: str, split: Split, scores: Sequence[ItemScore]) -> None:
        """Forget it."""

    def violated(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH) -> list[str]:
        """Return nothing."""
        return []

    def answers(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH) -> dict[str, dict[int, float]]:
        """Return task to item to value."""
        return {"t": {score.item: score.metrics["acc"] for score in scores}}

    def result(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH, recipe: Recipe | None = None) -> Result:
        """Return the mean."""
        return Result((self.score(scores).mean,))

    def result_of(self, means: Sequence[float], recipe: Recipe | None = None) -> Result:
        """Return the one term's mean."""
        return Result((means[0],))

    def of_recipe(self, recipe: Recipe) -> float:
        """Return 0: a recipe adds nothing."""
        return 0.0

    def score(self, scores: Sequence[ItemScore], split: Split = Split.SEARCH) -> Score:
        """Return the mean without a real interval."""
        mean = sum(score.metrics["acc"] for score in scores) / len(scores)
        return Score(mean, mean, mean, len(scores))
