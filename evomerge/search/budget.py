"""When a search ends: limits in candidates, evaluated items or seconds, kept exactly."""

from __future__ import annotations

import math
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
