"""A response matrix as a file: who answered which item how. The form that estimators of ability are calibrated on.

A `.npz` file with the arrays

- `R` `(models, items)`: int8 where every known value is 0 or 1, with -1 where it is not known; else float64 and NaN
- `models` `(models,)`: names; `recipes` `(models,)`: content hashes of their recipes, "" where there is none
- `items` `(items,)`: "task/index", the lm-eval task and the index among the documents that it evaluates on
- `metric` `(items,)`: what the values are; `split` `(items,)`: "search", "validation" or "test" in the run that they
  come from, "" where there is none
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import RunError
from evomerge.record import Split
from evomerge.store.run_dir import RunDir
from evomerge.system.files import write_atomically

_KEYS = ("R", "models", "items", "metric", "recipes", "split")


@dataclass(frozen=True)
class Responses:
    """A response matrix.

    Attributes:
        models: `(n_models,)` names, each once.
        items: `(n_items,)` names "task/index".
        metric: `(n_items,)` name of the metric.
        values: `(n_models, n_items)`, NaN where a model has not answered.
        recipes: `(n_models,)` content hashes, "" where unknown.
        split: `(n_items,)` which split of a run the item is in, "" where in none.
    """

    models: tuple[str, ...]
    items: tuple[str, ...]
    metric: tuple[str, ...]
    values: NDArray[np.float64]
    recipes: tuple[str, ...]
    split: tuple[str, ...]

    def __post_init__(self) -> None:
        n_models, n_items = len(self.models), len(self.items)
        lengths = (self.values.shape, len(self.recipes), len(self.metric), len(self.split))
        if lengths != ((n_models, n_items), n_models, n_items, n_items):
            raise ValueError(f"{n_models} models and {n_items} items, but values, recipes, metric, split are {lengths}")
        if len(set(self.models)) != n_models:
            raise ValueError("each model must have a name of its own")

    def row(self, model: str) -> NDArray[np.float64] | None:
        """Return a model's values `(n_items,)`, or None."""
        return self.values[self.models.index(model)] if model in self.models else None

    def with_row(self, model: str, recipe: str, values: NDArray[np.float64]) -> Responses:
        """Return the matrix with a model's row added, or replaced where it has one."""
        kept = [i for i, name in enumerate(self.models) if name != model]
        at = self.models.index(model) if model in self.models else len(kept)
        rows = np.insert(self.values[kept], at, values, axis=0)
        models, recipes = [self.models[i] for i in kept], [self.recipes[i] for i in kept]
        models.insert(at, model)
        recipes.insert(at, recipe)
        return Responses(tuple(models), self.items, self.metric, rows, tuple(recipes), self.split)

    def save(self, path: str | Path) -> Path:
        """Write the file; readers see the earlier or the new one, never a half.

        Raises:
            RunError: if it cannot be written.
        """
        path = Path(path).expanduser()
        known = self.values[~np.isnan(self.values)]
        values = self.values
        if np.isin(known, (0.0, 1.0)).all():
            values = np.where(np.isnan(values), -1, values).astype(np.int8)
        texts = (self.models, self.items, self.metric, self.recipes, self.split)
        arrays: dict[str, Any] = {"R": values}
        arrays.update((key, np.array(names, dtype=str)) for key, names in zip(_KEYS[1:], texts, strict=True))
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        write_atomically(path, content.getvalue())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Responses:
        """Read a file; one that has `R`, `models` and `items` only will do.

        Raises:
            RunError: if it is missing or no such file.
        """
        path = Path(path).expanduser()
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in _KEYS if key in file.files}
            R, models, items = (arrays[key] for key in _KEYS[:3])
            values = R.astype(np.float64)
            if R.dtype.kind in "iu":
                values[R < 0] = np.nan
            blank = {"metric": len(items), "recipes": len(models), "split": len(items)}
            texts = {key: tuple(map(str, arrays.get(key, [""] * n))) for key, n in blank.items()}
            return cls(tuple(map(str, models)), tuple(map(str, items)), values=values, **texts)
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror or error}") from error
        except (KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
            raise RunError(f"{path} is no response matrix (an .npz file with R, models and items): {error}") from error


def run_responses(run: RunDir) -> Responses:
    """Return who answered what in a run: baselines and candidates, on the items of all splits.

    Candidates that took over another's scores are left out: their rows would be copies.
    """
    recorded = run.database.splits()
    names: list[tuple[str, str, str]] = []  # item, metric, split
    blocks: list[tuple[int, list[int], NDArray[np.float64]]] = []  # first column, candidate numbers, values
    for task in (run.config.get("evaluation") or {}).get("tasks") or ():
        name, metric, filter_name = task["name"], task["metric"], task.get("filter")
        # In a task of several filters each value stands under "metric,filter".
        keys = [metric] if filter_name is None else [f"{metric},{filter_name}", metric]
        for split in Split:
            for key in keys:
                numbers, items, values = run.database.response_matrix(name, key, split)
                if numbers:
                    source = recorded[name][str(split)]["task"] if name in recorded else name
                    blocks.append((len(names), numbers, values))
                    names += [(f"{source}/{item}", key, str(split)) for item in items]
                    break
    records = {record.number: record for record in run.database.records(baselines=True)}
    # Baselines are numbered -1, -2, … in their order.
    order = sorted({number for _, numbers, _ in blocks for number in numbers}, key=lambda n: (n >= 0, abs(n)))
    place = {number: i for i, number in enumerate(order)}
    matrix = np.full((len(order), len(names)), np.nan)
    for start, numbers, values in blocks:
        matrix[[place[number] for number in numbers], start : start + values.shape[1]] = values
    return Responses(
        models=tuple(records[number].name for number in order),
        items=tuple(name for name, _, _ in names),
        metric=tuple(metric for _, metric, _ in names),
        values=matrix,
        recipes=tuple(records[number].recipe.content_hash for number in order),
        split=tuple(split for _, _, split in names),
    )
