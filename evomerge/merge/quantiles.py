"""Tables of quantiles of |τ|, so that no density of a trim needs a sort.

As fp32, the bits of non-negative numbers sort as the numbers do, so ranking means counting bits. A table divides the
entries of one task vector, or of a whole model's, into a few thousand groups by magnitude, and shows the group of the
k-th largest entry at once. Bf16 parents have few distinct deltas, so nearly every entry shares its value with thousands
of others. Such a value is a group of its own; then only the last kept one of its entries must be found, since the
lowest flat indices are kept. A group of several values is surveyed: its few entries are listed, for all parents in one
pass. The kept entries are those of a stable sort.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evomerge.merge.kernels.engine import KernelEngine
from evomerge.merge.kernels.program import BitRange, Cut, Survey

if TYPE_CHECKING:
    import torch

GROUPS = 4096
"""About how many groups a table has; a group of several values then holds one entry in 4096."""

FREQUENT = 1024
"""If there are many values, they are counted in bins that share their upper bits. A bin with more than one entry in so
many stays a group of its own, in which the entries of one value are counted rather than listed."""

VALUES = 1 << 17
"""Up to how many distinct values in a tensor each is counted by itself; bf16 parents have some ten thousand."""

PARTS = 8
"""How many times more values several tensors may have that are ranked as one."""

_SHIFT = 13


@dataclass(frozen=True)
class Deltas:
    """Task vectors that need not be in memory: `load` returns θ0 and a θ for each, contiguous, of n entries."""

    n: int
    load: Callable[[], tuple[torch.Tensor, Sequence[torch.Tensor]]]


@dataclass(frozen=True)
class QuantileTable:
    """Groups of the entries of task vectors, by rising magnitude.

    Attributes:
        low: `(n_groups,)` int32, the least bits of each group.
        high: `(n_groups,)` int32, one more than its largest bits.
        at_least: `(n_groups,)` int64, how many entries are in the group or above it.
        value: `(n_groups,)` int32, the bits of the entry that seems most frequent, if the group has many; else −1.
    """

    low: np.ndarray
    high: np.ndarray
    at_least: np.ndarray
    value: np.ndarray

    @property
    def n(self) -> int:
        """Number of entries."""
        return int(self.at_least[0]) if len(self.at_least) else 0

    @property
    def n_bytes(self) -> int:
        """Its size in memory."""
        return self.low.nbytes + self.high.nbytes + self.at_least.nbytes + self.value.nbytes


def make_table(engine: KernelEngine, parts: Sequence[Deltas], which: int = 0) -> QuantileTable:
    """Return the table of one task vector, or of several tensors' as one, after a pass that counts magnitudes.

    Args:
        engine: counts the magnitudes.
        parts: the task vectors of one tensor each.
        which: the number of the task vector among those of each part.
    """
    total = sum(part.n for part in parts)
    tallied = _tally(engine, parts, which)
    if tallied is not None:
        values, size = tallied
        alone = size > total // GROUPS
        first, last = _joined(size, alone, total)
        return _table(values[first], values[last] + 1, size, first, np.where(alone, values, -1)[first])
    counts, member = np.zeros(1 << 31 - _SHIFT, np.int64), np.zeros(1 << 31 - _SHIFT, np.int32)
    for part in parts:
        base, parents = part.load()
        engine.histogram(base, parents[which], _SHIFT, counts, member)
    bins = counts.nonzero()[0]
    size = counts[bins]
    alone = size > total // FREQUENT
    first, last = _joined(size, alone, total)
    value = np.where(alone, np.maximum(member[bins], bins << _SHIFT), -1)[first]
    return _table(bins[first] << _SHIFT, bins[last] + 1 << _SHIFT, size, first, value)


def _tally(engine: KernelEngine, parts: Sequence[Deltas], which: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the values of all parts' entries (as bits, rising) and how often each occurs; None if there are many."""
    values, sizes = np.zeros(0, np.int32), np.zeros(0, np.int64)
    for part in parts:
        base, parents = part.load()
        here = engine.tally(base, parents[which], VALUES)
        if here is None:
            return None
        values, where = np.unique(np.concatenate([values, here[0]]), return_inverse=True)
        if len(values) > PARTS * VALUES:
            return None
        before, sizes = np.concatenate([sizes, here[1]]), np.zeros(len(values), np.int64)
        np.add.at(sizes, where, before)
    return values, sizes


def _joined(size: np.ndarray, alone: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Join neighbours, except those that stay alone, up to the size of a group; return the ends of the groups."""
    share = (size.cumsum() - 1) * GROUPS // max(1, total)
    begins = np.ones(len(size), bool)
    begins[1:] = alone[1:] | alone[:-1] | (share[1:] != share[:-1])
    first = begins.nonzero()[0]
    return first, np.append(first[1:], len(size))[: len(first)] - 1


def _table(low: np.ndarray, high: np.ndarray, size: np.ndarray, first: np.ndarray, value: np.ndarray) -> QuantileTable:
    at_least = size[::-1].cumsum()[::-1][first]
    return QuantileTable(low.astype(np.int32), high.astype(np.int32), at_least, value.astype(np.int32))


def cuts(
    engine: KernelEngine, parts: Sequence[Deltas], tables: Sequence[QuantileTable], ks: Sequence[int]
) -> list[list[Cut]]:
    """Return the cuts that keep the k largest |τ| of each task vector, and of equal ones those that come first.

    Args:
        engine: surveys the entries.
        parts: one tensor each, with the task vectors of several parents.
        tables: the table of each parent's entries in all parts.
        ks: how many entries each parent keeps.

    Returns:
        For each parent a cut for each part.
    """
    made: dict[int, list[Cut]] = {}
    ties: dict[int, _Tie] = {}
    open_: dict[int, _Open] = {}
    for index, (table, k) in enumerate(zip(tables, ks, strict=True)):
        _file(index, _begin(parts, table, k), made, ties, open_)
    surveys: dict[int, list[Survey]] = {index: [] for index in open_}
    for part in parts if open_ else ():
        base, parents = part.load()
        found = engine.survey(base, [parents[index] for index in open_], [each.range for each in open_.values()])
        for index, survey in zip(open_, found, strict=True):
            surveys[index].append(survey)
    for index, each in open_.items():
        _note_frequent(tables[index], each, surveys[index])
        _file(index, _decide(parts, each, surveys[index]), made, ties, {})
    made |= _end_ties(engine, parts, ties)
    return [made[index] for index in range(len(ks))]


def _file(
    index: int,
    what: list[Cut] | _Tie | _Open,
    made: dict[int, list[Cut]],
    ties: dict[int, _Tie],
    open_: dict[int, _Open],
) -> None:
    if isinstance(what, _Tie):
        ties[index] = what
    elif isinstance(what, _Open):
        open_[index] = what
    else:
        made[index] = what


@dataclass(frozen=True)
class _Tie:
    """All entries above these bits are kept, and the first `kept` of the entries with exactly these bits."""

    bits: int
    kept: int


@dataclass(frozen=True)
class _Open:
    """What a table leaves open: which `needed` entries of a group are kept."""

    group: int
    range: BitRange
    needed: int


def _begin(parts: Sequence[Deltas], table: QuantileTable, k: int) -> list[Cut] | _Tie | _Open:
    """Return what the table alone says about the cuts."""
    if k <= 0:
        return [Cut(math.inf, 0)] * len(parts)
    group = len(table.at_least) - 1 - int(np.searchsorted(table.at_least[::-1], k))
    above = int(table.at_least[group + 1]) if group + 1 < len(table.at_least) else 0
    low, high = int(table.low[group]), int(table.high[group])
    if k == table.at_least[group]:
        return [Cut(_value(low), part.n) for part in parts]
    if high == low + 1:
        return _Tie(low, k - above)
    return _Open(group, BitRange(low, high, int(table.value[group])), k - above)


def _note_frequent(table: QuantileTable, was: _Open, seen: Sequence[Survey]) -> None:
    """Let another value be counted next time, if the counted one is not the most frequent of its group."""
    if was.range.value < 0:
        return
    values, sizes = np.unique(np.concatenate([each.bits for each in seen]), return_counts=True)
    if len(sizes) and sizes.max() > sum(each.n for each in seen):
        table.value[was.group] = values[sizes.argmax()]


def _decide(parts: Sequence[Deltas], was: _Open, seen: Sequence[Survey]) -> list[Cut] | _Tie:
    """Return the cuts, or a tie, from the ranks of listed and counted entries."""
    value, needed = was.range.value, was.needed
    listed, counted = np.concatenate([each.bits for each in seen]), sum(each.n for each in seen)
    larger = int((listed > value).sum())
    if larger < needed <= larger + counted:
        return _Tie(value, needed - larger)
    rank = needed if needed <= larger else needed - counted  # among those that were listed
    threshold = int(np.partition(listed, len(listed) - rank)[len(listed) - rank])
    return _of_listed(parts, seen, threshold, rank - int((listed > threshold).sum()))


def _of_listed(parts: Sequence[Deltas], seen: Sequence[Survey], threshold: int, equal: int) -> list[Cut]:
    """Return cuts that keep the first `equal` of the listed entries with these bits."""
    made = []
    for part, each in zip(parts, seen, strict=True):
        here = each.places[each.bits == threshold]
        made.append(Cut(_value(threshold), part.n if equal >= len(here) else int(here[equal]) if equal else 0))
        equal = max(0, equal - len(here))
    return made


def _end_ties(engine: KernelEngine, parts: Sequence[Deltas], ties: dict[int, _Tie]) -> dict[int, list[Cut]]:
    """Return the cuts of ties, after finding the last kept one of each parent's equal entries."""
    made: dict[int, list[Cut]] = {index: [] for index in ties}
    left = {index: tie.kept if tie.bits else 0 for index, tie in ties.items()}  # a kept zero is a dropped one
    for part in parts:
        base, parents = part.load() if any(left.values()) else (None, ())
        for index, tie in ties.items():
            limit = 0
            if left[index] and base is not None:
                place, seen = engine.nth(base, parents[index], tie.bits, left[index])
                limit = part.n if place < 0 else place + 1
                left[index] -= seen
            made[index].append(Cut(_value(tie.bits), limit))
    return made


def _value(bits: int) -> float:
    return float(np.array(bits, np.int32).view(np.float32))
