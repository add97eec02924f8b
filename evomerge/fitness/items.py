"""The search items of a run, and answers to them as rows of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evomerge.record import ItemScore

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Term:
    """One summand of the objective: a number per item of one task.

    Attributes:
        task: the task on whose items it is measured.
        weight: signed weight of its mean in the objective.
    """

    name: str
    task: str
    weight: float


@dataclass
class ItemTable:
    """All search items in one order, and the terms that are measured on them.

    Attributes:
        items: task name to item indices.
        terms: what is measured on the items.
    """

    items: Mapping[str, Sequence[int]]
    terms: Sequence[Term]
    _places: dict[str, dict[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        self.tasks = tuple(self.items)
        self.keys = [(task, item) for task in self.tasks for item in self.items[task]]
        self.strata = np.array([t for t, task in enumerate(self.tasks) for _ in self.items[task]], dtype=np.int64)
        start = 0
        self._places, self._columns = {}, {}
        for task in self.tasks:
            n = len(self.items[task])
            self._columns[task] = slice(start, start + n)
            self._places[task] = {item: place for place, item in enumerate(self.items[task])}
            start += n
        self.size = start

    def position(self, score: ItemScore) -> int:
        """Return the position of an item among all items."""
        return self._columns[score.task].start + self._places[score.task][score.item]

    def columns(self, term: Term) -> slice:
        """Return the positions of a term's items among all items."""
        return self._columns[term.task]

    def row(self, term: Term, values: Mapping[int, float]) -> Array:
        """Return a term's values as `(n_task_items,)`, NaN where there is none."""
        row = np.full(len(self.items[term.task]), np.nan)
        for item, value in values.items():
            row[self._places[term.task][item]] = value
        return row

    def named(self, chosen: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Return positions among all items as task name to item indices, ascending."""
        found: dict[str, list[int]] = {}
        for position in chosen:
            task, item = self.keys[position]
            found.setdefault(task, []).append(item)
        return {task: tuple(sorted(found[task])) for task in self.tasks if task in found}
