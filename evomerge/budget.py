"""When a search ends: limits in candidates, evaluated items or seconds, kept exactly."""

from __future__ import annotations

from dataclasses import dataclass


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
