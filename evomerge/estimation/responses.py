"""The response matrix: which model got which item right.

Everything about estimation starts from it: rows are models, columns are items, an entry is the score of one answer in
[0, 1], and NaN says that the item was never asked. Names travel with the numbers, so that two matrices are joined by
name and never by position.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import EstimationError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Responses:
    """Scores of models on items.

    Attributes:
        models: (m,) names of the rows, each once.
        items: (N,) names of the columns, each once.
        R: (m, N) scores in [0, 1]; NaN where there is none. Made read-only.

    Raises:
        EstimationError: a shape that does not fit the names, a name that comes twice, or a score outside [0, 1].
    """

    models: tuple[str, ...]
    items: tuple[str, ...]
    R: Floats

    def __post_init__(self) -> None:
        models, items = tuple(map(str, self.models)), tuple(map(str, self.items))
        R = np.array(self.R, dtype=np.float64)  # a copy: nobody else can write into it
        if R.shape != (len(models), len(items)):
            raise EstimationError(
                f"responses need one row for each of {len(models)} models and one column for each of {len(items)} "
                f"items; got an array of shape {R.shape}"
            )
        for kind, names in (("model", models), ("item", items)):
            _check_unique(kind, names)
        wrong = np.argwhere(~np.isnan(R) & ~((R >= 0) & (R <= 1)))
        if len(wrong):
            row, column = wrong[0]
            raise EstimationError(
                f"responses are scores in [0, 1]; {len(wrong)} are not, the first {R[row, column]:g} for model "
                f"{models[row]!r} on item {items[column]!r}. Rescale the metric, or mark what is missing as NaN"
            )
        R.setflags(write=False)
        object.__setattr__(self, "models", models)
        object.__setattr__(self, "items", items)
        object.__setattr__(self, "R", R)

    @property
    def n_models(self) -> int:
        """Number of rows."""
        return len(self.models)

    @property
    def n_items(self) -> int:
        """Number of columns."""
        return len(self.items)

    def of_models(self, names: Iterable[str]) -> Responses:
        """The rows of `names`, in that order.

        Raises:
            EstimationError: a model that has no row here.
        """
        names = tuple(names)
        rows = _positions("model", self.models, names)
        return Responses(names, self.items, self.R[rows])

    def of_items(self, names: Iterable[str]) -> Responses:
        """The columns of `names`, in that order: how another matrix is aligned to this one's items.

        Raises:
            EstimationError: an item that has no column here.
        """
        names = tuple(names)
        columns = _positions("item", self.items, names)
        return Responses(self.models, names, self.R[:, columns])

    def joined(self, other: Responses) -> Responses:
        """These rows and those of `other`, whose columns are put into this order first.

        Raises:
            EstimationError: the items differ, or a model is in both.
        """
        extra = set(other.items) - set(self.items)
        if extra:
            raise EstimationError(f"the two matrices hold different items: {_some(extra)} only in the second")
        aligned = other.of_items(self.items)
        return Responses(self.models + other.models, self.items, np.concatenate([self.R, aligned.R]))

    def accuracy(self) -> Floats:
        """(m,) mean score of each model over the items it was asked; NaN for a model that was asked none."""
        asked = ~np.isnan(self.R)
        total = np.where(asked, self.R, 0.0).sum(1)
        return np.divide(total, asked.sum(1), out=np.full(self.n_models, np.nan), where=asked.any(1))


def _check_unique(kind: str, names: Sequence[str]) -> None:
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    twice = {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]
    raise EstimationError(f"each {kind} may come once; {_some(twice)} came more often. Remove or merge the repetitions")


def _positions(kind: str, known: Sequence[str], wanted: Sequence[str]) -> list[int]:
    place = {name: index for index, name in enumerate(known)}
    missing = [name for name in wanted if name not in place]
    if missing:
        raise EstimationError(
            f"{len(missing)} of {len(wanted)} {kind} names are not among the {len(known)} {kind}s of the responses: "
            f"{_some(missing)} (the responses hold names such as {_some(known)})"
        )
    return [place[name] for name in wanted]


def _some(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    listed = ", ".join(map(repr, names[:most])) or "none"
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
