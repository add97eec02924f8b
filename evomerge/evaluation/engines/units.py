"""The units of a candidate that one process answers, when idle processes may steal some of them.

An engine cuts the requests of a selection of items into units: the batches that it would run anyway, in their order.
The process takes units from the front, one after the other; idle processes steal units from the back. The cuts do not
depend on who takes what, so each answer is the same, bit for bit, as if one process had given them all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

WORTH = 0.1
"""Units are given to a thief if that saves at least this share of the time that is left."""


class StolenUnits(NamedTuple):
    """A range of units that another process answers from now on.

    Attributes:
        first: the first of them.
        end: their end (exclusive).
    """

    first: int
    end: int


class UnitRange:
    """The units that a process answers, counted from 0.

    The engine's thread takes units from the front; another thread, which speaks for the thieves, steals from the back.

    Attributes:
        first: the first unit.
        n_units: how many units the candidate has in all; None before they were counted.
    """

    def __init__(
        self,
        first: int = 0,
        end: int | None = None,
        *,
        pace: float | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Make a range; its time starts now, with the building of the candidate.

        Args:
            end: the end of the range (exclusive); None: that of the candidate.
            pace: how long a unit of the candidate before this one took, in seconds; None: not known.
            clock: in seconds.
        """
        self.first = first
        self.n_units: int | None = None
        self._end = end
        self._taken = first  # units before this one were begun
        self._pace = pace
        self._clock = clock or time.perf_counter
        self._made = self._clock()
        self._opened: float | None = None
        self._lock = threading.Lock()

    def open(self, n_units: int) -> None:
        """Say how many units the candidate has. The model is ready by now, so the first unit can be taken."""
        with self._lock:
            self.n_units = n_units
            self._end = n_units if self._end is None else min(self._end, n_units)
            self._opened = self._clock()

    @property
    def end(self) -> int:
        """The end (exclusive) of the units that are left to this process."""
        assert self._end is not None, "units are counted before they are taken"
        return self._end

    @property
    def whole(self) -> bool:
        """Whether these are all units of the candidate, so that no other process answers any."""
        return self.first == 0 and self._end in (None, self.n_units)

    def overlaps(self, start: int, stop: int) -> bool:
        """Return whether any of the units `start` to `stop` (exclusive) is for this process."""
        return max(start, self.first) < min(stop, self.end)

    def take(self, start: int, stop: int) -> tuple[int, int]:
        """Begin those of the units `start` to `stop` (exclusive) that are for this process.

        Returns:
            The first of them and their end (exclusive); equal if there are none.
        """
        with self._lock:
            first, last = max(start, self.first), min(stop, self.end)
            if first < last:
                self._taken = max(self._taken, last)
            return first, max(first, last)

    @property
    def pace(self) -> float | None:
        """Seconds for a unit, measured over the units begun; before there are any, that of the candidate before."""
        done = self._taken - self.first
        if self._opened is None or done < 1:
            return self._pace
        measured = (self._clock() - self._opened) / done
        # Right after its beginning, the first unit seems to take no time.
        return max(measured, self._pace or 0.0) if done == 1 else measured

    def steal(self) -> StolenUnits | None:
        """Give units at the back to a thief: as many as let both processes finish soonest.

        The thief has to build the candidate first, which takes as long as it took here.

        Returns:
            The stolen units; None if nothing would be gained, or it is not known yet whether something would.
        """
        with self._lock:
            pace = self.pace
            if self._opened is None or self._end is None or not pace:
                return None
            left = self._end - self._taken
            building = (self._opened - self._made) / pace  # in units, as all of this
            running = 0.5 * (self._taken > self.first)

            def time_with(stolen: int) -> float:
                return max(left - stolen + running, building + stolen if stolen else 0.0)

            best = min(range(left + 1), key=time_with, default=0)
            if best == 0 or time_with(0) - time_with(best) < WORTH * time_with(0):
                return None
            self._end -= best
            return StolenUnits(self._end, self._end + best)
