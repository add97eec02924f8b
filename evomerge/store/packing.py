"""Item scores as compact blobs.

The scores of one candidate are stored in one blob for each (split, task, metric). Thousands of candidates times
thousands of items then take a few megabytes and are read in a second; a row for each item would take gigabytes and
minutes. Item indices are the same for most candidates, and are stored once.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.record import ItemScore


@dataclass(frozen=True)
class Column:
    """One metric of one task.

    Attributes:
        task: the task's name.
        metric: the metric's name.
        items: `(n_items,)` int64 indices, in the order in which they came.
        values: `(n_items,)` float64 scores.
    """

    task: str
    metric: str
    items: NDArray[np.int64]
    values: NDArray[np.float64]


def to_columns(scores: Iterable[ItemScore]) -> list[Column]:
    """Return one column per task and metric, in the order in which they first appear.

    Raises:
        ValueError: if an item of a task comes twice.
    """
    tasks: dict[str, dict[int, Mapping[str, float]]] = {}
    for score in scores:
        rows = tasks.setdefault(score.task, {})
        if score.item in rows:
            raise ValueError(f"item {score.item} of task {score.task!r} was scored twice in one list")
        rows[score.item] = score.metrics
    columns = []
    for task, rows in tasks.items():
        names = dict.fromkeys(name for metrics in rows.values() for name in metrics)
        for name in names:  # an item may lack a metric that other items of its task have
            items = [item for item, metrics in rows.items() if name in metrics]
            values = [metrics[name] for metrics in rows.values() if name in metrics]
            columns.append(Column(task, name, np.array(items, dtype=np.int64), np.array(values, dtype=np.float64)))
    return columns


def from_columns(columns: Iterable[Column]) -> list[ItemScore]:
    """Return item scores task by task, with tasks and items in the order in which `to_columns` got them."""
    tasks: dict[str, dict[int, dict[str, float]]] = {}
    for column in columns:
        rows = tasks.setdefault(column.task, {})
        for item, value in zip(column.items.tolist(), column.values.tolist(), strict=True):
            rows.setdefault(item, {})[column.metric] = value
    return [ItemScore(task, item, metrics) for task, rows in tasks.items() for item, metrics in rows.items()]


def pack(array: NDArray[np.int64] | NDArray[np.float64]) -> bytes:
    """Return the array's little-endian bytes, compressed; zlib's checksum detects later damage."""
    return zlib.compress(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(), level=1)


def unpack_items(blob: bytes) -> NDArray[np.int64]:
    """Return the `(n_items,)` item indices that `pack` wrote.

    Raises:
        zlib.error: if the blob is damaged.
    """
    return np.frombuffer(zlib.decompress(blob), dtype="<i8").astype(np.int64, copy=False)


def unpack_values(blob: bytes) -> NDArray[np.float64]:
    """Return the `(n_items,)` scores that `pack` wrote, bit for bit.

    Raises:
        zlib.error: if the blob is damaged.
    """
    return np.frombuffer(zlib.decompress(blob), dtype="<f8").astype(np.float64, copy=False)
