"""A space with an optimizer of arrays: the optimizer moves a point in the unit cube, and the space makes it a recipe.

Only this module knows the cube. Here alone several objectives and the violation become one number, for optimizers that
take only one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.genome.space import Space
from evomerge.optimizers.base import Optimizer, Point
from evomerge.optimizers.pareto import best_front
from evomerge.record import Record, Result
from evomerge.strategies.base import FRONT, WINNER, Proposal, Strategy, StrategySetup


class VectorStrategy(Strategy):
    """A space with an optimizer of arrays, which moves a point in the unit cube for each recipe.

    Args:
        space: turns points into genomes, and genomes into recipes.
        optimizer: moves points.
        weights: `(n_objectives,)`, the weights of the objectives where the optimizer takes one number.
    """

    def __init__(self, space: Space, optimizer: Optimizer, weights: Sequence[float] = (1.0,)) -> None:
        self.space = space
        self.optimizer = optimizer
        self._weights = tuple(weights)
        # A recipe that the user named comes before all points; the optimizer, which begins there, never hears of it.
        self._first = space.first
        self._begun, self._first_told = self._first is None, False
        # With one objective there is one winner, even if the optimizer could take several objectives.
        self.choice = FRONT if optimizer.many_objectives and len(self._weights) > 1 else WINNER

    @classmethod
    def make(cls, setup: StrategySetup) -> VectorStrategy:
        """Return a strategy of the configured space and optimizer."""
        space = setup.space()
        return cls(space, setup.optimizer(space), setup.weights)

    @property
    def population(self) -> int:
        """The optimizer's."""
        return self.optimizer.population

    @property
    def sure_asks(self) -> int:
        """The optimizer's, after the recipe that comes first."""
        return self.optimizer.sure_asks + (not self._begun)

    def ask(self) -> Proposal:
        """Return the recipe of the optimizer's next point; genes that sleep stand in its genome at their start."""
        if self._first is not None and not self._begun:
            self._begun = True
            return Proposal(0, self.space.decode(self._first), self._first)
        asked: Point = self.optimizer.ask()
        genome = self.space.canonical(self.space.genome(asked.x))
        parents = tuple(number + self._shift for number in asked.parents)
        return Proposal(asked.number + self._shift, self.space.decode(genome), genome, parents)

    def tell(self, number: int, result: Result | None) -> None:
        """Tell the optimizer the whole result, or the one number that it becomes.

        Raises:
            RuntimeError: if that number was never asked or is told twice.
        """
        if result is not None and not self.optimizer.many_objectives:
            result = Result((result.scalar(self._weights),))
        if number >= self._shift:
            self.optimizer.tell(number - self._shift, result)
            return
        if not self._begun or self._first_told:
            raise RuntimeError(f"proposal {number} was {'told twice' if self._first_told else 'never asked'}")
        self._first_told = True

    @property
    def _shift(self) -> int:
        return int(self._first is not None)

    def again(self, number: int, genome: tuple[float, ...] | None) -> Proposal:
        """Return an outstanding proposal once more."""
        assert genome is not None, "every proposal of this strategy has one"
        return Proposal(number, self.space.decode(genome), genome)

    def dump_state(self) -> bytes:
        """Return the optimizer's state, behind a byte for the recipe that comes first, if there is one."""
        state = self.optimizer.dump_state()
        return state if self._first is None else bytes([self._begun + self._first_told]) + state

    def load_state(self, state: bytes) -> None:
        """Continue from `dump_state`.

        Raises:
            ValueError: if the state is not one of this optimizer and its arguments.
        """
        if self._first is None:
            self.optimizer.load_state(state)
            return
        if state[:1] not in (b"\0", b"\1", b"\2"):
            raise ValueError("the state is not one of a search that begins with a recipe")
        self.optimizer.load_state(state[1:])
        self._begun, self._first_told = state[0] > 0, state[0] > 1

    def diagnostics(self) -> Mapping[str, Any]:
        """Return the optimizer's."""
        return self.optimizer.diagnostics()

    def point(self, genome: tuple[float, ...] | None) -> NDArray[np.float64] | None:
        """Return the `(n_dims,)` point of a genome in the unit cube; None without a genome."""
        if genome is None:
            return None
        return np.array([gene.unit(value) for gene, value in zip(self.space.genes, genome, strict=True)])

    @property
    def has_mean(self) -> bool:
        """The space's."""
        return self.space.has_mean

    def mean(self, genomes: Sequence[tuple[float, ...]]) -> Proposal | None:
        """Return the recipe of the mean of some genomes, the best first; None where the space has none."""
        genome = self.space.mean(genomes)
        return None if genome is None else Proposal(-1, self.space.decode(genome), genome)

    def finalists(self, ranked: Sequence[Record], n: int) -> list[Record]:
        """Return the best candidates by fitness; where the search ends with a front, the best fronts, thinned out."""
        if self.choice == WINNER:
            return super().finalists(ranked, n)
        results = [record.result for record in ranked if record.result is not None]
        assert len(results) == len(ranked), "only scored candidates are ranked"
        return [ranked[place] for place in best_front(results, n)]
