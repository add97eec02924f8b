"""When a search ends: limits in candidates, evaluated items or seconds, which are kept exactly."""

from __future__ import annotations

import math
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
