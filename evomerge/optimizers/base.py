"""The ask/tell contract that every optimizer of arrays keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evomerge.record import Result

GENERATION = 8
"""How many candidates are compared with each other if an optimizer has no generations of its own."""


Awake: TypeAlias = "Callable[[NDArray[np.float64]], NDArray[np.bool_]]"
"""Returns for an `(n_dims,)` point which of its coordinates count.

The others sleep: any value there gives the same recipe, so what a sleeping one says was never tried. Which ones are
awake depends on awake coordinates alone.
"""


@dataclass(frozen=True)
class Point:
    """A point to score.

    Attributes:
        number: counts the asks of this optimizer from 0; `tell` names the point by it.
        x: `(n_dims,)` float64, inside the unit cube, read-only.
        parents: numbers of the points from which it was bred, in the same count.
    """

    number: int
    x: NDArray[np.float64]
    parents: tuple[int, ...] = ()


class Optimizer(ABC):
    """Moves points in the unit cube `[0, 1]^n_dims` towards better results; knows no model and no recipe.

    An optimizer is made as `cls(n_dims, start, seed, **options)`, with `kinds` if it `uses_kinds` and with `awake` if
    it `uses_awake`; `start` is an `(n_dims,)` point in the cube, and `seed` a whole number from 0.

    What callers may assume:

    - `ask` may be called any number of times before earlier points are told.
    - Each point is told at most once, in any order; a point that is never told is tolerated.
    - `tell(number, None)`, or a result that is not finite, means that the candidate failed: it ranks below every other.
    - An optimizer of one objective is told results with one objective and no violation; one that takes
      `many_objectives` is told all objectives and the violation, as in `evomerge.record.Result`.
    - The optimizer draws only from generators that it owns, made from the given seed. It neither sets nor reads the
      global ones of `random`, `numpy` and `torch`.
    - `dump_state` holds everything: an optimizer made with the same arguments in another process and given that
      state continues bit for bit, even with outstanding points.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ()
    """The names of the options that it takes."""

    uses_kinds: ClassVar[bool] = False
    """Whether it is given the kind of each dimension (integers, choices); for others every dimension is a float."""

    uses_awake: ClassVar[bool] = False
    """Whether it is told which coordinates of a point count. One that recombines points needs it: a coordinate that
    slept in one parent was never tried there. One that samples a distribution does not: selection is blind to what
    sleeps."""

    many_objectives: ClassVar[bool] = False
    """Whether it is told several objectives and violations, rather than one number."""

    n_dims: int

    @classmethod
    def problems(cls, options: Mapping[str, Any], n_dims: int) -> list[str]:
        """Return the mistakes in the values of these options, one sentence each."""
        del options, n_dims
        return []

    @property
    def population(self) -> int:
        """How many points are compared with each other."""
        return GENERATION

    @property
    def sure_asks(self) -> int:
        """How many further `ask`s return the same points, whatever outstanding ones are told in the meantime."""
        return 0

    @abstractmethod
    def ask(self) -> Point:
        """Return the next point to score."""

    @abstractmethod
    def tell(self, number: int, result: Result | None) -> None:
        """Take the result of point `number`; None, or one that is not finite: it failed.

        Raises:
            RuntimeError: if that number was never asked or is told twice.
        """

    def diagnostics(self) -> Mapping[str, Any]:
        """Return how the optimizer stands, for people; see `Strategy.diagnostics`.

        Lengths are shares of the cube's side.
        """
        return {}

    @abstractmethod
    def dump_state(self) -> bytes:
        """Return everything that the next `ask` depends on."""

    @abstractmethod
    def load_state(self, state: bytes) -> None:
        """Continue from `dump_state`.

        Raises:
            ValueError: if the state is not one of this optimizer and these dimensions.
        """


def lent(
    awake: Awake | None, one: NDArray[np.float64], other: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two points that are to be recombined, each with the other's coordinate where its own sleeps.

    Args:
        awake: which coordinates of a point count; None: all of them.
        one, other: `(n_dims,)`. Where a coordinate sleeps in both, both stay as they are.
    """
    if awake is None:
        return one, other
    first, second = awake(one), awake(other)
    return np.where(second & ~first, other, one), np.where(first & ~second, one, other)
