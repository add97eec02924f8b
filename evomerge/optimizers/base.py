"""The ask/tell contract that every optimizer keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Proposal:
    """A point to score.

    Attributes:
        number: counts the asks of this optimizer from 0; `tell` names it.
        x: `(n_dims,)` float64, inside the unit cube, read-only.
    """

    number: int
    x: NDArray[np.float64]


class Optimizer(Protocol):
    """Moves points in the unit cube `[0, 1]^n_dims` towards larger fitness; knows no model and no recipe.

    What callers may assume:

    - `ask` may be called again before earlier proposals are told (several outstanding asks), without bound.
    - Each proposal is told at most once, in any order; a proposal that is never told is tolerated.
    - `tell(number, None)` or a NaN fitness means that the candidate failed: it ranks below every other one.
    - The optimizer draws only from generators it owns, made from the seed it was given, and neither sets nor reads
      the global ones of `random`, `numpy` and `torch`.
    - `dump_state` holds everything: an optimizer made with the same arguments in another process and given that
      state continues bit for bit, also with asks outstanding.
    """

    n_dims: int

    def ask(self) -> Proposal:
        """Return the next point to score."""
        ...

    def tell(self, number: int, fitness: float | None) -> None:
        """Take the fitness of proposal `number`; larger is better, None or NaN: it failed.

        Raises:
            RuntimeError: if that number was never asked or is told twice.
        """
        ...

    def dump_state(self) -> bytes:
        """Return everything that the next `ask` depends on."""
        ...

    def load_state(self, state: bytes) -> None:
        """Continue from `dump_state`.

        Raises:
            ValueError: if the state is not one of this optimizer and these dimensions.
        """
        ...


GENERATION = 8
"""Candidates that are compared with each other where an optimizer has no generations of its own."""


def generation_size(optimizer: Optimizer) -> int:
    """Return how many proposals an optimizer compares with each other: its `population` where it has one."""
    population = getattr(optimizer, "population", None)
    return population if isinstance(population, int) else GENERATION


def sure_asks(optimizer: Optimizer) -> int:
    """Return how many further `ask`s give the same points whatever is told of the outstanding proposals meanwhile.

    That is the optimizer's own `sure_asks` where it has one (what is left of a generation, say); else 0.
    """
    sure = getattr(optimizer, "sure_asks", 0)
    return sure if isinstance(sure, int) else 0
