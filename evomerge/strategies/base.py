"""The contract of a strategy: it proposes recipes and is told results. It knows no model, no item and no worker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evomerge.genome.space import Space
from evomerge.optimizers.base import Optimizer
from evomerge.recipe import Recipe
from evomerge.record import Record, Result

WINNER, FRONT, ARCHIVE = "winner", "front", "archive"
"""How a search ends: with its best recipe, with the recipes that no other one dominates, or with the best of each
niche."""


@dataclass(frozen=True)
class Proposal:
    """A recipe to score.

    Attributes:
        number: counts the asks of this strategy from 0; `tell` names the proposal by it.
        genome: the gene values from which the recipe was decoded; None: there are none.
        parents: numbers of the proposals from which it was bred, in the same count.
    """

    number: int
    recipe: Recipe
    genome: tuple[float, ...] | None = None
    parents: tuple[int, ...] = ()


@dataclass(frozen=True)
class StrategySetup:
    """What a strategy is made from.

    Attributes:
        space: makes the space that the configuration describes.
        optimizer: makes the optimizer that the configuration names, for a space.
        parents: name to recipe of each baseline: the parents, and their plain average.
        elite: the best recipe of the stages before; None in the first.
        seed: the seed of this stage, from 0.
        weights: `(n_objectives,)`, the weights of the objectives where they become one number.
        options: the strategy's own options.
    """

    space: Callable[[], Space]
    optimizer: Callable[[Space], Optimizer]
    parents: Mapping[str, Recipe]
    elite: Recipe | None
    seed: int
    weights: Sequence[float]
    options: Mapping[str, Any] = field(default_factory=dict)


class Strategy(ABC):
    """Proposes recipes and learns from their results.

    What callers may assume:

    - While it is `ready`, `ask` may be called any number of times before earlier proposals are told.
    - Each proposal is told at most once, in any order; one that is never told is tolerated.
    - `tell(number, None)` means that the candidate failed: it ranks below every other one.
    - Equal recipes have equal results, so a strategy may propose a recipe again; it is not scored twice.
    - It draws only from generators that it owns, made from the seed that it was given.
    - `dump_state` holds everything: a strategy made with the same arguments in another process and given that state
      continues bit for bit, even with outstanding proposals; `again` returns those.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ()
    """The names of the options that it takes."""

    choice: str = WINNER
    """How a search with this strategy ends."""

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> list[str]:
        """Return the mistakes in the values of these options, one sentence each."""
        del options
        return []

    @classmethod
    @abstractmethod
    def make(cls, setup: StrategySetup) -> Strategy:
        """Return a strategy for a stage of a search; its options have been checked."""

    @property
    @abstractmethod
    def population(self) -> int:
        """How many proposals are compared with each other; they answer the same items."""

    @property
    def sure_asks(self) -> int:
        """How many further `ask`s return the same proposals, whatever outstanding ones are told in the meantime."""
        return 0

    @property
    def ready(self) -> bool:
        """Whether there is a recipe to ask for now.

        False: the next one depends on an outstanding result, or nothing is left to propose. A search whose strategy is
        not ready although nothing is outstanding is over, whatever is left of its budget.
        """
        return True

    @abstractmethod
    def ask(self) -> Proposal:
        """Return the next recipe to score."""

    @abstractmethod
    def tell(self, number: int, result: Result | None) -> None:
        """Take the result of proposal `number`; None: it failed.

        Raises:
            RuntimeError: if that number was never asked or is told twice.
        """

    @abstractmethod
    def again(self, number: int, genome: tuple[float, ...] | None) -> Proposal:
        """Return an outstanding proposal once more, after `load_state`.

        Args:
            number: the proposal's number.
            genome: the proposal's genome.
        """

    @abstractmethod
    def dump_state(self) -> bytes:
        """Return everything that the next `ask` depends on."""

    @abstractmethod
    def load_state(self, state: bytes) -> None:
        """Continue from `dump_state`.

        Raises:
            ValueError: if the state is not one of this strategy and its arguments.
        """

    def diagnostics(self) -> Mapping[str, Any]:
        """Return how the strategy stands, for people, as JSON data; empty: it has nothing to say.

        It changes nothing and is cheap, since it is called after each tell. A search notes it when its `generation`
        changed; without this key, when anything in it did.
        """
        return {}

    def point(self, genome: tuple[float, ...] | None) -> NDArray[np.float64] | None:
        """Return a recipe's point in the unit cube, from which models predict scores of recipes near it; or None.

        Returns:
            `(n_dims,)`; the distance of two points says how alike their recipes are.
        """
        del genome
        return None

    @property
    def has_mean(self) -> bool:
        """Whether `mean` can give a recipe."""
        return False

    def mean(self, genomes: Sequence[tuple[float, ...]]) -> Proposal | None:
        """Return the mean of some genomes as a proposal with the number -1, since it was not asked for; or None."""
        del genomes
        return None

    def finalists(self, ranked: Sequence[Record], n: int) -> list[Record]:
        """Return the candidates that are to be scored again on the validation items, the best first.

        Args:
            ranked: the scored candidates by fitness, the best first.
            n: how many to return at most.
        """
        return list(ranked[:n])
