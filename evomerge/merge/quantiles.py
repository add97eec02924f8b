"""Tables of quantiles of |τ|, so that another density of a trim needs no sort.

As fp32, the bits of non-negative numbers sort as the numbers do, so ranking means counting bits. A table divides the
entries of one task vector, or of a whole model's, into a few thousand groups by magnitude. It says at once which group
the k-th largest entry is in, and only within that group is anything left to decide. A survey lists its few entries,
for all parents in one pass. Where a value is frequent (bf16 parents have few distinct deltas), its entries are counted
piece by piece instead, which tells where the n-th of them lies: the lowest flat indices are kept. The kept set is that
of a stable sort.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evomerge.merge.kernels.engine import PIECE, Engine, Range, Survey
from evomerge.merge.kernels.program import Cut

if TYPE_CHECKING:
    import torch

GROUPS = 4096
"""Groups of a table, about; a range then holds one entry in 4096."""

FREQUENT = 1024
"""A bin with more than one entry in so many stays a group of its own, in which one value is counted, not listed."""

_SHIFT = 13


@dataclass(frozen=True)
class Deltas:
    """Task vectors that need not be in memory: `load` gives θ0 and one θ each, contiguous and of n entries."""

    n: int
    load: Callable[[], tuple[torch.Tensor, Sequence[torch.Tensor]]]


@dataclass(frozen=True)
class QuantileTable:
    """Groups of the entries of task vectors, by rising magnitude.

    Attributes:
        low: int32, the least bits of each group.
        high: int32, one more than its largest bits.
        at_least: int64, how many entries are in it or above it.
        value: int32, the bits of one of its entries if they are many, supposedly the most frequent; else −1.
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


def make_table(engine: Engine, parts: Sequence[Deltas], which: int = 0) -> QuantileTable:
    """Count the magnitudes of one task vector, or of several tensors' as one, in a pass over them.

    Args:
        engine: counts.
        parts: a tensor each.
        which: number of the task vector among those of each part.
    """
    counts, member = np.zeros(1 << 31 - _SHIFT, np.int64), np.zeros(1 << 31 - _SHIFT, np.int32)
    for part in parts:
        base, parents = part.load()
        engine.histogram(base, parents[which], _SHIFT, counts, member)
    bins = counts.nonzero()[0]
    size, total = counts[bins], sum(part.n for part in parts)
    # A frequent bin stays by itself; neighbours are joined until they hold their share of the entries.
    alone = size > _frequent(total)
    share = (size.cumsum() - 1) * GROUPS // max(1, total)
    begins = np.ones(len(size), bool)
    begins[1:] = alone[1:] | alone[:-1] | (share[1:] != share[:-1])
    first = begins.nonzero()[0]
    last = np.append(first[1:], len(size)) - 1
    at_least = size[::-1].cumsum()[::-1]
    return QuantileTable(
        low=(bins[first] << _SHIFT).astype(np.int32),
        high=(bins[last] + 1 << _SHIFT).astype(np.int32),
        at_least=at_least[first],
        value=np.where(alone[first], np.maximum(member[bins[first]], bins[first] << _SHIFT), -1).astype(np.int32),
    )


def _frequent(n: int) -> int:
    return max(1, n // FREQUENT)


def cuts(
    engine: Engine, parts: Sequence[Deltas], tables: Sequence[QuantileTable], ks: Sequence[int]
) -> list[list[Cut]]:
    """Return the cuts that keep the k largest |τ| of each task vector; of equal ones those that come first.

    Args:
        engine: looks at the entries.
        parts: a tensor each, with the task vectors of several parents.
        tables: one for each parent, of its entries in all parts.
        ks: how many each parent keeps.

    Returns:
        For each parent a cut for each part.
    """
    made: list[list[Cut]] = [[] for _ in ks]
    open_: dict[int, _Open] = {}
    for index, (table, k) in enumerate(zip(tables, ks, strict=True)):
        begun = _begin(parts, table, k)
        if isinstance(begun, _Open):
            open_[index] = begun
        else:
            made[index] = begun
    surveys: dict[int, list[Survey]] = {index: [] for index in open_}
    for part in parts if open_ else ():
        base, parents = part.load()
        found = engine.survey(base, [parents[index] for index in open_], [each.range for each in open_.values()])
        for index, survey in zip(open_, found, strict=True):
            surveys[index].append(survey)
    for index, each in open_.items():
        _note_frequent(tables[index], each, surveys[index])
        made[index] = _decide(engine, parts, index, each, surveys[index])
    return made


@dataclass(frozen=True)
class _Open:
    """What a table leaves open: which `needed` entries of a group are kept."""

    group: int
    range: Range
    needed: int


def _begin(parts: Sequence[Deltas], table: QuantileTable, k: int) -> list[Cut] | _Open:
    """Return the cuts if the table alone says what they are, else what is left to decide."""
    if k <= 0:
        return [Cut(math.inf, 0)] * len(parts)
    group = len(table.at_least) - 1 - int(np.searchsorted(table.at_least[::-1], k))
    above = int(table.at_least[group + 1]) if group + 1 < len(table.at_least) else 0
    low, high = int(table.low[group]), int(table.high[group])
    if k == table.at_least[group]:
        return [Cut(_value(low), part.n) for part in parts]
    return _Open(group, Range(low, high, int(table.value[group])), k - above)


def _note_frequent(table: QuantileTable, was: _Open, seen: Sequence[Survey]) -> None:
    """Count another value next time if the one that was counted is not the most frequent one of a group with many."""
    if was.range.value < 0:
        return
    values, sizes = np.unique(np.concatenate([each.bits for each in seen]), return_counts=True)
    if len(sizes) and sizes.max() > sum(each.n for each in seen):
        table.value[was.group] = values[sizes.argmax()]


def _decide(engine: Engine, parts: Sequence[Deltas], index: int, was: _Open, seen: Sequence[Survey]) -> list[Cut]:
    """Rank what was listed and what was counted."""
    value, needed = was.range.value, was.needed
    listed, counted = np.concatenate([each.bits for each in seen]), sum(each.n for each in seen)
    larger = int((listed > value).sum())
    if larger < needed <= larger + counted:
        return _of_counted(engine, parts, index, seen, value, needed - larger)
    rank = needed if needed <= larger else needed - counted  # among those that were listed
    threshold = int(np.partition(listed, len(listed) - rank)[len(listed) - rank])
    return _of_listed(parts, seen, threshold, rank - int((listed > threshold).sum()))


def _of_listed(parts: Sequence[Deltas], seen: Sequence[Survey], threshold: int, equal: int) -> list[Cut]:
    """Keep the first `equal` of the listed entries with these bits."""
    made = []
    for part, each in zip(parts, seen, strict=True):
        here = each.places[each.bits == threshold]
        made.append(Cut(_value(threshold), part.n if equal >= len(here) else int(here[equal]) if equal else 0))
        equal = max(0, equal - len(here))
    return made


def _of_counted(
    engine: Engine, parts: Sequence[Deltas], index: int, seen: Sequence[Survey], bits: int, equal: int
) -> list[Cut]:
    """Keep the first `equal` of the counted entries, whose bits these are."""
    made = []
    for part, survey in zip(parts, seen, strict=True):
        if bits == 0 or equal == 0 or equal >= survey.n:  # of zeros, kept and dropped ones are the same
            limit = part.n if bits and equal else 0
        else:
            passed = survey.counts.cumsum()
            piece = int(np.searchsorted(passed, equal))
            start, stop = piece * PIECE, min(part.n, (piece + 1) * PIECE)
            base, parents = part.load()
            before = int(passed[piece - 1]) if piece else 0
            limit = engine.nth(base, parents[index], start, stop, bits, equal - before) + 1
        made.append(Cut(_value(bits), limit))
        equal = max(0, equal - survey.n)
    return made


def _value(bits: int) -> float:
    return float(np.array(bits, np.int32).view(np.float32))
