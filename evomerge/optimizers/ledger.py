"""The common part of all optimizers: the count of asks, the outstanding proposals, and a generator of their own."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evomerge.optimizers.base import Point
from evomerge.record import Result


class Ledger:
    """Numbers the proposals of one optimizer and refuses numbers that were never asked or told before.

    Attributes:
        n_asked: the number of the next proposal.
        outstanding: a proposal's number to its `(n_dims,)` point, for proposals that were asked and not told.
    """

    def __init__(self) -> None:
        self.n_asked = 0
        self.outstanding: dict[int, NDArray[np.float64]] = {}

    def open(self, x: ArrayLike, parents: Iterable[int] = ()) -> Point:
        """Hand out a point, clipped into the unit cube, under the next number.

        Args:
            x: `(n_dims,)`.
            parents: numbers of the points from which it was bred.
        """
        # A copy, so that nobody else holds a writable view of what the caller gets.
        point = np.clip(np.array(x, dtype=np.float64), 0.0, 1.0)
        point.setflags(write=False)
        opened = Point(self.n_asked, point, tuple(sorted(set(parents))))
        self.outstanding[self.n_asked] = point
        self.n_asked += 1
        return opened

    @property
    def n_told(self) -> int:
        """How many proposals were told."""
        return self.n_asked - len(self.outstanding)

    def close(self, number: int) -> NDArray[np.float64]:
        """Take a proposal off the list and return its point.

        Raises:
            RuntimeError: if that number was never asked or was told before.
        """
        if number in self.outstanding:
            return self.outstanding.pop(number)
        if 0 <= number < self.n_asked:
            raise RuntimeError(f"proposal {number} was told before; each proposal is told at most once")
        raise RuntimeError(
            f"proposal {number} was never asked ({self.n_asked} were, numbered from 0); tell the number that ask gave"
        )

    def to_data(self) -> dict[str, Any]:
        """Return plain data; `from_data` reads it back bit for bit."""
        return {"n_asked": self.n_asked, "outstanding": {number: x.copy() for number, x in self.outstanding.items()}}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Ledger:
        """Return the ledger that `to_data` wrote."""
        ledger = cls()
        ledger.n_asked = int(data["n_asked"])
        for number, x in data["outstanding"].items():
            point = np.array(x, dtype=np.float64)
            point.setflags(write=False)
            ledger.outstanding[int(number)] = point
        return ledger


def usable(result: Result | None) -> float | None:
    """Return the one objective, or None where the candidate failed (None, NaN, or an infinity, which no score is).

    Raises:
        ValueError: if there are several objectives, or a violation.
    """
    if result is None:
        return None
    if len(result.objectives) != 1 or result.violation:
        raise ValueError(f"this optimizer takes one objective and no violation, but was told {result}")
    value = result.objectives[0]
    return float(value) if math.isfinite(value) else None


def shown(number: float) -> float:
    """Return a number with the four digits that people see."""
    return float(f"{number:.4g}")


def own_generator(seed: int, purpose: str) -> np.random.RandomState:
    """Return a generator for a seed and a purpose.

    It is a `RandomState` rather than a `Generator`, since pycma and nevergrad draw from one. The purpose keeps two
    objects with the same seed from drawing the same numbers.
    """
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())])
    return np.random.RandomState(np.random.MT19937(sequence))


def checked_start(start: ArrayLike, n_dims: int) -> NDArray[np.float64]:
    """Return the start as a `(n_dims,)` float64 copy.

    Raises:
        ValueError: if it has another shape or leaves the unit cube.
    """
    point = np.array(start, dtype=np.float64)
    if n_dims < 1:
        raise ValueError(f"an optimizer needs at least one dimension, but n_dims is {n_dims}")
    if point.shape != (n_dims,):
        raise ValueError(f"start must have the shape ({n_dims},), but has {point.shape}")
    if not np.all((point >= 0.0) & (point <= 1.0)):  # also refuses NaN
        raise ValueError(f"start must lie in the unit cube, but came {point.tolist()}")
    return point
