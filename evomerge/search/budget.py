"""When a search ends: limits in candidates, evaluated items or seconds, kept exactly; and how many answers it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_ROUNDING = 1e-6
"""Tolerance for rounding: shares such as 1/3 + 2/3 need not sum to exactly 1, and must not cost a limit a candidate."""


@dataclass(frozen=True)
class Budget:
    """Limits of the search itself; the first that is reached ends it. Baselines and finalists cost extra.

    Attributes:
        candidates: proposals of the optimizer.
        items: item evaluations of those proposals; a candidate that would exceed the limit is not started.
        seconds: wall time; candidates that are running at its end are dropped.
    """

    candidates: int | None = None
    items: int | None = None
    seconds: float | None = None

    def allows(self, spent: Spent, items: int) -> bool:
        """Return whether one more candidate may start.

        Args:
            spent: what the search has cost so far.
            items: item evaluations that are still to come, those of the new candidate included.
        """
        if self.candidates is not None and spent.candidates >= self.candidates:
            return False
        return self.items is None or spent.items + items <= self.items

    def part(self, share: float) -> Budget:
        """Return the limits for a share of the whole; share 1 gives the budget itself."""
        return Budget(
            candidates=None if self.candidates is None else math.floor(self.candidates * share + _ROUNDING),
            items=None if self.items is None else math.floor(self.items * share + _ROUNDING),
            seconds=None if self.seconds is None else self.seconds * share,
        )


@dataclass(frozen=True)
class AnswerLimits:
    """How many of the models' answers stay in the run, to be read.

    Attributes:
        candidates: how many of the best candidates keep their answers on the search items.
        mib: the most that answers and prompts may take, compressed, in MiB; 0: none are kept.
    """

    candidates: int = 8
    mib: float = 64.0


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
    """Measures how long a search has run, over all sessions; it runs only within `with`.

    Args:
        spent: what the search has cost so far; its `seconds` are those of earlier sessions.
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
        """Seconds that the search has run."""
        return self._spent.seconds if self._began is None else self._clock() - self._began

    def at(self, seconds: float | None) -> float | None:
        """Return when, on the given clock, the search will have run for so many seconds; None: never."""
        return None if seconds is None or self._began is None else self._began + seconds
