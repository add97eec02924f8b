"""How hard items are, from the answers of many models: which none or all of them have right, and so decide nothing.

The share of models that have an item right is its difficulty index in classical test theory (Lord & Novick 1968,
Statistical Theories of Mental Test Scores, ch. 15). An item on which all models score the same tells none of them from
another one, whatever it costs to ask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Difficulty:
    """How hard the items of a task are.

    Attributes:
        asked: `(n_items,)`, how many models were asked.
        mean: `(n_items,)`, the mean of their scores; NaN where nobody was asked.
        same: `(n_items,)`, whether at least two were asked and all of them score the same.
        never: `(n_items,)`, whether at least two were asked and none has it right.
        always: `(n_items,)`, whether at least two were asked and all have it right.
        judged: whether something says what is right; if not, `never` and `always` are false throughout.
    """

    asked: NDArray[np.int64]
    mean: Floats
    same: NDArray[np.bool_]
    never: NDArray[np.bool_]
    always: NDArray[np.bool_]
    judged: bool

    @property
    def items(self) -> int:
        """The number of items."""
        return len(self.asked)


def difficulty(values: Floats, *, less: bool = False) -> Difficulty:
    """Return how hard items are.

    Args:
        values: `(n_models, n_items)` scores, NaN where there is none. Where all lie between 0 and 1, the better of
            these is a right answer; of other scores none is.
        less: whether smaller scores are better.
    """
    there = ~np.isnan(values)
    asked = there.sum(axis=0)
    total = np.where(there, values, 0.0).sum(axis=0)
    mean = np.divide(total, asked, out=np.full(len(asked), np.nan), where=asked > 0)
    low = np.where(there, values, np.inf).min(axis=0, initial=np.inf)
    high = np.where(there, values, -np.inf).max(axis=0, initial=-np.inf)
    judged = bool(there.any() and (values[there] >= 0.0).all() and (values[there] <= 1.0).all())
    several = asked > 1
    right = (values == (0.0 if less else 1.0)) & there
    none = np.zeros(len(asked), dtype=bool)
    return Difficulty(
        asked,
        mean,
        several & (low == high),
        several & ~right.any(axis=0) if judged else none,
        several & (right.sum(axis=0) == asked) if judged else none,
        judged,
    )


def blocks(n: int, most: int) -> NDArray[np.int64]:
    """Return where each of at most so many blocks of about equal size begins, and the end: `(n_blocks + 1,)`."""
    return np.unique(np.linspace(0, n, min(n, max(1, most)) + 1).round().astype(np.int64))


def block_means(values: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
    """Return the mean of what is there in each block; NaN where nothing is.

    Args:
        values: `(n_rows, n_columns)`, NaN where there is none.
        rows: as `blocks` returns them; so is `columns`.
    """
    there = ~np.isnan(values)
    sums, counts = (
        np.add.reduceat(np.add.reduceat(one, rows[:-1], axis=0), columns[:-1], axis=1)
        for one in (np.where(there, values, 0.0), there.astype(np.float64))
    )
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
