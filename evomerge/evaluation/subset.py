"""Which items each split holds: drawn once per run from the run's seed, recorded, never drawn again."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.errors import ConfigError
from evomerge.evaluation.task import Size, SplitSizes, Task
from evomerge.record import Split

# The test split is cut first, so that its items stay the same when only the search or validation size changes: then
# test scores of the runs can be compared, and no run searches on an item on which an earlier one was tested.
_CUT_ORDER = (Split.TEST, Split.VALIDATION, Split.SEARCH)


@dataclass(frozen=True)
class Drawn:
    """The items of one split of one task.

    Attributes:
        source: the lm-eval task that the items belong to.
        n_docs: how many documents that task had when the split was drawn.
        items: indices of documents, ascending.
        documents: the hash of the items' documents; "": not known. By it a recorded split knows its items again.
    """

    source: str
    n_docs: int
    items: tuple[int, ...]
    documents: str = ""

    def to_data(self) -> dict[str, Any]:
        """Return `{"task", "n_docs", "items", "documents"}`."""
        return {"task": self.source, "n_docs": self.n_docs, "items": list(self.items), "documents": self.documents}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Drawn:
        """Return the split that `to_data` wrote."""
        return cls(
            str(data["task"]),
            int(data["n_docs"]),
            tuple(int(item) for item in data["items"]),
            str(data.get("documents", "")),
        )


def split_items(n_docs: int, sizes: Mapping[Split, Size], seed: int, task: str) -> dict[Split, tuple[int, ...]]:
    """Draw disjoint splits from the documents of one task.

    The same arguments give the same items in every process and on every platform.

    Args:
        n_docs: number of documents in the pool.
        sizes: for each split that draws from this pool: a count, a fraction in (0, 1), or None for the rest.
        seed: the run's seed.
        task: the pool's name; pools of equal size draw differently.

    Returns:
        For each key of `sizes`, ascending indices below `n_docs`.

    Raises:
        ConfigError: if the pool has too few documents, or two splits ask for the rest.
    """
    counts = _counts(n_docs, sizes, task)
    # Seeding with text goes through SHA-512, and `shuffle` is stable across Python versions.
    order = list(range(n_docs))
    random.Random(f"evomerge split {seed} {task}").shuffle(order)
    items = {}
    start = 0
    for split in _CUT_ORDER:
        if split in counts:
            items[split] = tuple(sorted(order[start : start + counts[split]]))
            start += counts[split]
    return {split: items[split] for split in Split if split in items}


def draw_splits(task: Task, n_docs: Mapping[str, int], sizes: SplitSizes, seed: int) -> dict[Split, Drawn]:
    """Draw the three splits of one task, each from the lm-eval task that is named for it.

    Args:
        task: the task.
        n_docs: lm-eval task name to its number of documents.
        sizes: how many items each split takes.
        seed: the run's seed.

    Raises:
        ConfigError: as `split_items`.
    """
    drawn: dict[Split, Drawn] = {}
    for source in task.sources:
        wanted = {split: sizes.of(split) for split in Split if task.source(split) == source}
        for split, items in split_items(n_docs[source], wanted, seed, source).items():
            drawn[split] = Drawn(source, n_docs[source], items)
    return {split: drawn[split] for split in Split}


def _counts(n_docs: int, sizes: Mapping[Split, Size], task: str) -> dict[Split, int]:
    counts: dict[Split, int] = {}
    rest: Split | None = None
    for split, size in sizes.items():
        if size is None:
            if rest is not None:
                raise ConfigError(
                    f"task {task!r}: both the {rest} and the {split} split ask for the rest of the items; "
                    "give one of them a count or a fraction"
                )
            rest = split
        elif isinstance(size, float):
            # The small addition makes 0.29 of 100 be 29, although the product is 28.999999999999996.
            counts[split] = math.floor(size * n_docs + 1e-9)
            if counts[split] == 0:
                raise ConfigError(
                    f"task {task!r} has {n_docs} items, of which {split}={size} is none; make the fraction larger"
                )
        else:
            counts[split] = size
    total = sum(counts.values())
    named = " + ".join(f"{split}={count}" for split, count in counts.items())
    if total > n_docs:
        raise ConfigError(f"task {task!r} has {n_docs} items, but {named} = {total}; make the splits smaller")
    if rest is not None:
        counts[rest] = n_docs - total
        if counts[rest] == 0:
            raise ConfigError(
                f"task {task!r} has {n_docs} items, and {named or 'nothing'} leaves none for the {rest} split"
            )
    return counts
