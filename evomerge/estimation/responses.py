"""The response matrix: how each model answered each item.

Rows are models, columns are items, and NaN means that the item was not asked. Names travel with the numbers, so that
two matrices are joined by name and never by position.

A run's matrix holds the values of any metric, token counts included. Estimation needs scores in [0, 1] and one column
for each item: `Responses.scores` is the matrix after that check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import EstimationError
from evomerge.estimation.npz import read_matrix, write_matrix

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Responses:
    """The answers of models to items.

    Attributes:
        models: `(n_models,)` names of the rows, each once.
        items: `(n_items,)` names of the columns; in the matrix of a run "task/index": the lm-eval task, and the index
            among the documents on which it is evaluated.
        R: `(n_models, n_items)` values; NaN where there is none. Made read-only.
        metric: `(n_items,)` the metric of a column's values, "" where it is not known; empty: none is known.
        recipes: `(n_models,)` content hashes of the models' recipes, "" where there is none; empty: there are none.
        split: `(n_items,)` the split of the run to which an item belongs: "search", "validation" or "test", "" where it
            belongs to none; empty: no item belongs to a split.

    Raises:
        EstimationError: if a shape does not fit the names, or a model comes twice.
    """

    models: tuple[str, ...]
    items: tuple[str, ...]
    R: Floats
    metric: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    split: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        m, N = len(self.models), len(self.items)
        R = np.array(self.R, dtype=np.float64)  # a copy: nobody else can write into it
        if R.shape != (m, N):
            raise EstimationError(
                f"responses need one row for each of {m} models and one column for each of {N} items; got an array of "
                f"shape {R.shape}"
            )
        R.setflags(write=False)
        object.__setattr__(self, "R", R)
        object.__setattr__(self, "models", tuple(map(str, self.models)))
        object.__setattr__(self, "items", tuple(map(str, self.items)))
        for key, of, n in (("metric", "items", N), ("recipes", "models", m), ("split", "items", N)):
            texts = tuple(getattr(self, key)) or ("",) * n
            if len(texts) != n:
                raise EstimationError(f"responses of {n} {of} need {n} entries of `{key}`; got {len(texts)}")
            object.__setattr__(self, key, texts)
        _check_unique("model", self.models)

    @property
    def n_models(self) -> int:
        """Number of rows."""
        return len(self.models)

    @property
    def n_items(self) -> int:
        """Number of columns."""
        return len(self.items)

    @cached_property
    def scores(self) -> Floats:
        """The `(n_models, n_items)` matrix `R`, checked to be what estimators need.

        Raises:
            EstimationError: if a value lies outside of [0, 1], or an item has two columns.
        """
        _check_unique("item", self.items)
        wrong = np.argwhere(~np.isnan(self.R) & ~((self.R >= 0) & (self.R <= 1)))
        if len(wrong):
            row, column = wrong[0]
            raise EstimationError(
                f"responses are scores in [0, 1]; {len(wrong)} are not, the first {self.R[row, column]:g} for model "
                f"{self.models[row]!r} on item {self.items[column]!r}. Rescale the metric, or mark what is missing as "
                "NaN"
            )
        return self.R

    def row(self, model: str) -> Floats | None:
        """Return a model's `(n_items,)` values, or None if it has no row."""
        return self.R[self.models.index(model)] if model in self.models else None

    def with_row(self, model: str, recipe: str, values: Floats) -> Responses:
        """Return the matrix with a model's `(n_items,)` row, added at the end or replaced in place if it has one."""
        if model not in self.models:
            R = np.concatenate([self.R, values[None]])
            return replace(self, models=(*self.models, model), R=R, recipes=(*self.recipes, recipe))
        at = self.models.index(model)
        R = self.R.copy()
        R[at] = values
        return replace(self, R=R, recipes=(*self.recipes[:at], recipe, *self.recipes[at + 1 :]))

    def of_models(self, names: Iterable[str]) -> Responses:
        """Return the rows of `names`, in that order.

        Raises:
            EstimationError: if a model has no row here.
        """
        names = tuple(names)
        rows = _positions("model", self.models, names)
        return replace(self, models=names, R=self.R[rows], recipes=tuple(self.recipes[row] for row in rows))

    def of_items(self, names: Iterable[str]) -> Responses:
        """Return the columns of `names`, in that order: how another matrix is aligned to this one's items.

        Raises:
            EstimationError: if an item has no column here, or two.
        """
        names = tuple(names)
        columns = _positions("item", self.items, names)
        metric, split = (tuple(texts[column] for column in columns) for texts in (self.metric, self.split))
        return replace(self, items=names, R=self.R[:, columns], metric=metric, split=split)

    def joined(self, other: Responses) -> Responses:
        """Return these rows followed by those of `other`, with columns in this order.

        Raises:
            EstimationError: if the items differ, or a model is in both.
        """
        extra = set(other.items) - set(self.items)
        if extra:
            raise EstimationError(f"the two matrices hold different items: {_some(extra)} only in the second")
        aligned = other.of_items(self.items)
        R = np.concatenate([self.R, aligned.R])
        return replace(self, models=self.models + other.models, R=R, recipes=self.recipes + other.recipes)

    def accuracy(self) -> Floats:
        """Return the `(n_models,)` mean scores of the models over the items that they were asked; NaN if none."""
        asked = ~np.isnan(self.scores)
        total = np.where(asked, self.scores, 0.0).sum(1)
        return np.divide(total, asked.sum(1), out=np.full(self.n_models, np.nan), where=asked.any(1))

    def save(self, path: str | Path) -> Path:
        """Write the matrix as an `.npz` file (see `evomerge.estimation.npz`) and return its path.

        Raises:
            RunError: if it cannot be written; an earlier file is then unchanged.
        """
        path = Path(path).expanduser()
        names = ("models", "items", "metric", "recipes", "split")
        write_matrix(path, self.R, {key: getattr(self, key) for key in names})
        return path

    @classmethod
    def load(cls, path: str | Path) -> Responses:
        """Read an `.npz` file; `R`, `models` and `items` suffice.

        Raises:
            EstimationError: if it is missing, or holds no response matrix.
        """
        R, names = read_matrix(Path(path).expanduser(), ("metric", "recipes", "split"))
        return cls(R=R, **names)


def _check_unique(kind: str, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise EstimationError(
            f"each {kind} may come once; {_some(twice)} came more often. Remove or merge the repetitions"
        )


def _positions(kind: str, known: Sequence[str], wanted: Sequence[str]) -> list[int]:
    _check_unique(kind, known)
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
