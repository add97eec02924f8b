"""Which of a candidate's questions this process answers, when others may answer some of them.

An engine cuts the requests of a selection of items into units: the batches that it would run anyway, in their order.
The process takes units from the front, one after the other; whoever is idle is given units from the back. The cuts do
not depend on who takes what, so that each answer is the same, bit for bit, as if one process had given them all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

WORTH = 0.1
"""Units are given away if that saves at least so much of the time that is left."""


class Share:
    """A range of units, counted from 0. The engine's thread takes from its front, another thread gives from its end.

    Attributes:
        first: the first unit.
        of: how many units there are in all; None before they were counted.
    """

    def __init__(
        self,
        first: int = 0,
        end: int | None = None,
        *,
        pace: float | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Take a range.

        Args:
            end: the unit behind the last one; None: all that there are.
            pace: what a unit of the candidate before this one took, in seconds; None: not known.
            clock: in seconds.
        """
        self.first = first
        self.of: int | None = None
        self._end = end
        self._taken = first  # units before this one were begun
        self._pace = pace
        self._clock = clock or time.perf_counter
        self._made = self._clock()
        self._opened: float | None = None
        self._lock = threading.Lock()

    def open(self, n_units: int) -> None:
        """Say how many units there are; the model is ready by now."""
        with self._lock:
            self.of = n_units
            self._end = n_units if self._end is None else min(self._end, n_units)
            self._opened = self._clock()

    @property
    def end(self) -> int:
        """The unit behind the last one that is left to this process."""
        assert self._end is not None, "units are counted before they are taken"
        return self._end

    @property
    def whole(self) -> bool:
        """Whether nobody else takes any unit."""
        return self.first == 0 and self._end in (None, self.of)

    def wants(self, start: int, stop: int) -> bool:
        """Whether any unit of a range is for this process."""
        return max(start, self.first) < min(stop, self.end)

    def take(self, start: int, stop: int) -> tuple[int, int]:
        """Take those of the units `start` to `stop` (exclusive) that are for this process; return first and last."""
        with self._lock:
            first, last = max(start, self.first), min(stop, self.end)
            if first < last:
                self._taken = max(self._taken, last)
            return first, max(first, last)

    @property
    def pace(self) -> float | None:
        """Seconds for a unit: of those begun, or before there are any, of the candidate before."""
        done = self._taken - self.first
        if self._opened is None or done < 1:
            return self._pace
        measured = (self._clock() - self._opened) / done
        # Right after its beginning, the first unit seems to take no time.
        return max(measured, self._pace or 0.0) if done == 1 else measured

    def give(self) -> tuple[int, int] | None:
        """Give away units at the end, as many as make this process and another one, which first has to build the
        candidate as this one did, be done as early as they can.

        Returns:
            The first unit, and the one behind the last; None where nothing is gained, or not known to be.
        """
        with self._lock:
            pace = self.pace
            if self._opened is None or self._end is None or not pace:
                return None
            left = self._end - self._taken
            building = (self._opened - self._made) / pace  # in units, as all of this
            running = 0.5 * (self._taken > self.first)

            def time_with(given: int) -> float:
                return max(left - given + running, building + given if given else 0.0)

            best = min(range(left + 1), key=time_with, default=0)
            if best == 0 or time_with(0) - time_with(best) < WORTH * time_with(0):
                return None
            self._end -= best
            return self._end, self._end + best
