"""What the parents score in the entries of an objective: the best of them is what a merge is measured by.

Only parents count, not their average or any other merge: they are what a user has already. The best parent of an entry
is the one with the best mean on the items in question, so each entry may have another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from evomerge.errors import EvaluationError
from evomerge.evaluation.task import TaskSpec
from evomerge.record import ItemScore, Split

Rows = Mapping[tuple[str, int], Mapping[str, float]]
"""Task and item to the item's metrics."""

ValueOf = Callable[[TaskSpec, ItemScore, Split], float]
"""Returns the value of an entry on an item; NaN: it is not judged."""


@dataclass(frozen=True)
class BestParent:
    """The best parent of an entry on some items.

    Attributes:
        name: its name.
        mean: of its values, in the metric's own unit.
        values: item to value, of the items that are judged.
    """

    name: str
    mean: float
    values: Mapping[int, float]


class Parents:
    """The parents' values, entry by entry, computed once for each split.

    Args:
        names: of the parents, in order; of equal ones the first is the best.
        value_of: returns the value of an entry on an item.
    """

    def __init__(self, names: Sequence[str], value_of: ValueOf) -> None:
        self.names = tuple(names)
        self._value_of = value_of
        self._values: dict[tuple[int, Split], dict[str, dict[int, float]]] = {}
        self._rows: dict[tuple[str, Split], dict[str, list[ItemScore]]] = {}
        self._best: dict[tuple[int, Split], BestParent] = {}

    def forget(self) -> None:
        """Compute values anew, since further scores were noted."""
        self._values.clear()
        self._rows.clear()
        self._best.clear()

    def values(
        self, place: int, spec: TaskSpec, split: Split, noted: Mapping[str, Rows]
    ) -> Mapping[str, Mapping[int, float]]:
        """Return the name of each parent with its values by item, of the items that are judged.

        Args:
            place: of the entry among the entries.
            spec: the entry.
            split: of the items.
            noted: name of a baseline to its scores on the split.

        Raises:
            EvaluationError: if a parent was not scored there, or has no value of the metric.
        """
        key = place, split
        if key not in self._values:
            self._values[key] = {name: self._of(name, spec, split, noted.get(name) or {}) for name in self.names}
        return self._values[key]

    def best(
        self,
        place: int,
        spec: TaskSpec,
        split: Split,
        noted: Mapping[str, Rows],
        items: Collection[int] | None = None,
    ) -> BestParent:
        """Return the best parent of an entry.

        Args:
            place, spec, split, noted: as of `values`.
            items: on which it is the best; None: all of the split. Where no parent is judged on any of them, all.

        Raises:
            EvaluationError: as `values`.
        """
        every = self.values(place, spec, split, noted)
        wanted = None if items is None else set(items)
        if wanted is None or all(own.keys() <= wanted for own in every.values()):
            key = place, split
            if key not in self._best:
                self._best[key] = _best(every, spec)
            return self._best[key]
        here = {name: {item: own[item] for item in own if item in wanted} for name, own in every.items()}
        here = {name: own for name, own in here.items() if own}
        return _best(here or every, spec)

    def _of(self, name: str, spec: TaskSpec, split: Split, rows: Rows) -> dict[int, float]:
        found = {}
        try:
            for score in self._by_task(name, split, rows).get(spec.name, ()):
                value = self._value_of(spec, score, split)
                if not math.isnan(value):
                    found[score.item] = value
        except EvaluationError as error:
            raise EvaluationError(f"parent {name!r}, which may be the best of the parents: {error}") from error
        if not found:
            raise EvaluationError(
                f"task {spec.name!r}: the best parent in {spec.metric!r} is needed, but parent {name!r} has no "
                f"{split} scores of it"
            )
        return found

    def _by_task(self, name: str, split: Split, rows: Rows) -> Mapping[str, Sequence[ItemScore]]:
        """Return a parent's scores by task, sorted once for all entries."""
        if (name, split) not in self._rows:
            found: dict[str, list[ItemScore]] = {}
            for (task, item), metrics in rows.items():
                found.setdefault(task, []).append(ItemScore(task, item, metrics))
            self._rows[name, split] = found
        return self._rows[name, split]


def _best(every: Mapping[str, Mapping[int, float]], spec: TaskSpec) -> BestParent:
    sign = -1.0 if spec.direction == "minimize" else 1.0
    means = {name: math.fsum(own.values()) / len(own) for name, own in every.items()}
    name = max(means, key=lambda one: sign * means[one])  # of equal ones the first
    return BestParent(name, means[name], every[name])
