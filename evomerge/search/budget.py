"""When a search ends: limits in candidates, evaluated items or seconds, kept exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_ROUNDING = 1e-6
"""Shares such as 1/3 + 2/3 need not sum to exactly 1; no limit may lose a candidate by that."""


@dataclass(frozen=True)
class Budget:
    """Limits of the search itself; the first that is reached ends it. Baselines and finalists cost extra.

    Attributes:
        candidates: proposals of the optimizer.
        items: item evaluations of those proposals; a candidate that would go over is not started.
        seconds: wall time; a candidate that is running when it is up is dropped.
    """

    candidates: int | None = None
    items: int | None = None
    seconds: float | None = None

    def allows(self, spent: Spent, items: int) -> bool:
        """Whether one more candidate may start that takes the item evaluations to `items` beyond those spent."""
        if self.candidates is not None and spent.candidates >= self.candidates:
            return False
        return self.items is None or spent.items + items <= self.items

    def part(self, share: float) -> Budget:
        """Return the limits up to a share of the whole; 1 gives the budget itself."""
        return Budget(
            candidates=None if self.candidates is None else math.floor(self.candidates * share + _ROUNDING),
            items=None if self.items is None else math.floor(self.items * share + _ROUNDING),
            seconds=None if self.seconds is None else self.seconds * share,
        )


@dataclass
class Spent:
    """What the proposals have cost so far, over all sessions of the run.

    Attributes:
        hits: proposals whose recipe had been scored before; they cost no items.
    """

    candidates: int = 0
    items: int = 0
    seconds: float = 0.0
    hits: int = 0


class SearchClock:
    """How long a search has run, all its sessions counted; runs only within `with`.

    Args:
        spent: `seconds` of it are those of earlier sessions, until the clock runs.
        clock: seconds since some instant.
    """

    def __init__(self, spent: Spent, clock: Callable[[], float]) -> None:
        self._spent = spent
        self._clock = clock
        self._began: float | None = None

    def __enter__(self) -> SearchClock:
        self._began = self._clock() - self._spent.seconds
        return self

    def __exit__(self, *_: object) -> None:
        self._began = None

    @property
    def seconds(self) -> float:
        """Seconds by now."""
        return self._spent.seconds if self._began is None else self._clock() - self._began

    def at(self, seconds: float | None) -> float | None:
        """Return when the search will have run so long, on the clock that it was given; None: never."""
        return None if seconds is None or self._began is None else self._began + seconds
