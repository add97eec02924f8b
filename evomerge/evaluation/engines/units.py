"""The units of a candidate that one process answers, while idle processes may steal some of them.

An engine cuts the requests of a selection of items into units: the batches that it would run anyway, in their order.
The process takes units from the front, one after another; idle processes steal units from the back. The cuts do not
depend on who takes what, so each answer is the same, bit for bit, as if one process had given all answers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

WORTH = 0.1
"""The least share of the remaining time that a theft must save."""


class StolenUnits(NamedTuple):
    """A range of units that another process answers from now on.

    Attributes:
        first: the first unit.
        end: the end of the units (exclusive).
    """

    first: int
    end: int


class UnitRange:
    """The units that a process answers, counted from 0.

    The engine's thread takes units from the front; another thread steals from the back, on behalf of the thieves.

    Attributes:
        first: the first unit.
        n_units: how many units the candidate has in all; None before they are counted.
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
            first: the first unit.
            end: the end of the range (exclusive); None: the end of the candidate.
            pace: how many seconds a unit of the previous candidate took; None: not known.
            clock: returns seconds.
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
        """Note how many units the candidate has. The model is ready now, so the first unit can be taken."""
        with self._lock:
            self.n_units = n_units
            self._end = n_units if self._end is None else min(self._end, n_units)
            self._opened = self._clock()

    @property
    def end(self) -> int:
        """The end (exclusive) of this process's units."""
        assert self._end is not None, "units are counted before they are taken"
        return self._end

    @property
    def whole(self) -> bool:
        """Whether the range has all units of the candidate, so that no other process answers any."""
        return self.first == 0 and self._end in (None, self.n_units)

    def overlaps(self, start: int, stop: int) -> bool:
        """Return whether any of the units from `start` to `stop` (exclusive) is in the range."""
        return max(start, self.first) < min(stop, self.end)

    def take(self, start: int, stop: int) -> tuple[int, int]:
        """Begin the units from `start` to `stop` (exclusive) that are in the range.

        Returns:
            The first of them and their end (exclusive), which are equal if there are none.
        """
        with self._lock:
            first, last = max(start, self.first), min(stop, self.end)
            if first < last:
                self._taken = max(self._taken, last)
            return first, max(first, last)

    @property
    def pace(self) -> float | None:
        """Seconds for a unit, measured over the units begun; before there are any, that of the previous candidate."""
        done = self._taken - self.first
        if self._opened is None or done < 1:
            return self._pace
        measured = (self._clock() - self._opened) / done
        # Right after its beginning, the first unit would seem to take no time.
        return max(measured, self._pace or 0.0) if done == 1 else measured

    def steal(self) -> StolenUnits | None:
        """Give units at the back to a thief, so many that both processes finish as soon as possible.

        The thief has to build the candidate first, which counts as long as it took here.

        Returns:
            The stolen units; None if a theft would gain nothing, or it is not known yet whether it would.
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
