"""Random search: every point is drawn uniformly from the unit cube, whatever was told before.

The baseline of Bergstra and Bengio (JMLR 13, 2012): a search that does not beat it has found nothing.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evomerge.optimizers.base import Optimizer, Point
from evomerge.optimizers.ledger import Ledger, checked_start, own_generator
from evomerge.optimizers.state import damaged, flatten, pack, restore, unpack
from evomerge.record import Result


class RandomSearch(Optimizer):
    """Uniform points. The first proposal is the start, so that what the user stated is always tried.

    Args:
        n_dims: number of dimensions, from 1.
        start: `(n_dims,)`, in the unit cube.
        seed: from 0; the same seed gives the same points.
    """

    def __init__(self, n_dims: int, start: ArrayLike, seed: int) -> None:
        self.n_dims = n_dims
        self._start = checked_start(start, n_dims)
        self._generator = own_generator(seed, "random")
        self._ledger = Ledger()
        self._header = {"optimizer": "random", "n_dims": n_dims, "seed": seed, "start": self._start.tolist()}

    @property
    def sure_asks(self) -> int:
        """How many further points do not depend on what is told: all."""
        return sys.maxsize

    def ask(self) -> Point:
        """Return the next point to score."""
        if self._ledger.n_asked == 0:
            return self._ledger.open(self._start)
        return self._ledger.open(self._generator.random_sample(self.n_dims))

    def tell(self, number: int, result: Result | None) -> None:
        """Take the fitness of proposal `number`, which changes nothing.

        Raises:
            RuntimeError: if that number was never asked or is told twice.
        """
        self._ledger.close(number)

    def dump_state(self) -> bytes:
        """Return everything that the next `ask` depends on."""
        generator: Any = self._generator.get_state(legacy=True)
        return pack(self._header, flatten({"generator": tuple(generator), "ledger": self._ledger.to_data()}))

    def load_state(self, state: bytes) -> None:
        """Continue from `dump_state`.

        Raises:
            ValueError: if the state is not one of this optimizer and these arguments.
        """
        payload = unpack(state, self._header)
        with damaged():
            data = restore(payload)
            ledger = Ledger.from_data(data["ledger"])
            generator = np.random.RandomState()  # a fresh one: a damaged state must leave this object as it is
            generator.set_state(data["generator"])
        self._generator, self._ledger = generator, ledger
