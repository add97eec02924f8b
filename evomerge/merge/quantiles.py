"""Tables of quantiles of |τ|, so that another density of a trim needs no sort.

As fp32, the bits of non-negative numbers sort as the numbers do, so ranking means counting bits. A table divides the
entries of one task vector, or of a whole model's, into a few thousand groups by magnitude. It says at once which group
the k-th largest entry is in, and only within that group is anything left to decide: by looking at its few entries; or,
where few values are frequent (bf16 parents have few distinct deltas), by counting them once and finding where the n-th
of the value lies, of which the lowest flat indices are kept. The kept set is that of a stable sort.

What is left to decide for all parents of a tensor (or of a model) is found in one survey, which reads each tensor once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from evomerge.merge.kernels.engine import PIECE, Engine, Range, Survey
from evomerge.merge.kernels.program import Cut

GROUPS = 4096
"""Groups of a table, about; a range then holds one entry in 4096."""

FREQUENT = 1024
"""A bin with more than one entry in so many is not collected, but counted value by value."""

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
        divided: counts of the single values of frequent groups, by the group's least bits; filled when asked for.
    """

    low: np.ndarray
    high: np.ndarray
    at_least: np.ndarray
    divided: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False)

    @property
    def n(self) -> int:
        """Number of entries."""
        return int(self.at_least[0]) if len(self.at_least) else 0

    @property
    def n_bytes(self) -> int:
        """Its size in memory."""
        return self.low.nbytes + self.high.nbytes + self.at_least.nbytes


def make_table(engine: Engine, parts: Sequence[Deltas], which: int = 0) -> QuantileTable:
    """Count the magnitudes of one task vector, or of several tensors' as one, in a pass over them.

    Args:
        engine: counts.
        parts: a tensor each.
        which: number of the task vector among those of each part.
    """
    counts = np.zeros(1 << 31 - _SHIFT, np.int64)
    for part in parts:
        base, parents = part.load()
        engine.histogram(base, parents[which], _SHIFT, counts)
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
        (bins[first] << _SHIFT).astype(np.int32), (bins[last] + 1 << _SHIFT).astype(np.int32), at_least[first]
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
    searches: dict[int, _Search] = {}
    for index, (table, k) in enumerate(zip(tables, ks, strict=True)):
        _take(_begin(parts, table, k), index, made, searches)
    while searches:
        surveys: dict[int, list[Survey]] = {index: [] for index in searches}
        for part in parts:
            base, parents = part.load()
            ranges = [Range(each.low, each.high, each.listed) for each in searches.values()]
            found = engine.survey(base, [parents[index] for index in searches], ranges)
            for index, survey in zip(searches, found, strict=True):
                surveys[index].append(survey)
        for index, seen in surveys.items():
            search = searches.pop(index)
            if search.listed:
                made[index] = _from_list(parts, seen, search.needed)
                continue
            value = min(each.least for each in seen if each.n)
            if value == max(each.most for each in seen if each.n):
                if search.high - search.low > 1:  # the group has but this value
                    tables[index].divided[search.low] = np.array([value]), np.array([search.size])
                made[index] = _share_out(engine, parts, index, seen, value, search.needed)
            else:
                _take(_divide(engine, parts, index, tables[index], search), index, made, searches)
    return made


@dataclass(frozen=True)
class _Search:
    """What is left to decide: which `needed` of `size` entries with bits in [low, high) are kept."""

    low: int
    high: int
    size: int
    needed: int
    listed: bool


def _take(result: list[Cut] | _Search, index: int, made: list[list[Cut]], searches: dict[int, _Search]) -> None:
    if isinstance(result, _Search):
        searches[index] = result
    else:
        made[index] = result


def _begin(parts: Sequence[Deltas], table: QuantileTable, k: int) -> list[Cut] | _Search:
    """Return the cuts if the table alone says what they are, else what is left to decide."""
    if k <= 0:
        return [Cut(math.inf, 0)] * len(parts)
    group, size, needed = _group(table.at_least, k)
    low, high = int(table.low[group]), int(table.high[group])
    if needed == size:
        return [Cut(_value(low), part.n) for part in parts]
    if low in table.divided:
        return _of_values(parts, *table.divided[low], needed)
    return _Search(low, high, size, needed, listed=size <= _frequent(table.n))


def _of_values(parts: Sequence[Deltas], values: np.ndarray, at_least: np.ndarray, needed: int) -> list[Cut] | _Search:
    """Do the same for a frequent group whose values have been counted."""
    group, size, needed = _group(at_least, needed)
    low = int(values[group])
    if needed == size:
        return [Cut(_value(low), part.n) for part in parts]
    if low == 0:  # of zeros, kept and dropped ones are the same
        return [Cut(0.0, 0)] * len(parts)
    return _Search(low, low + 1, size, needed, listed=False)


def _group(at_least: np.ndarray, k: int) -> tuple[int, int, int]:
    """Return the group that holds the k-th largest entry, its size, and how many of it are among the k largest."""
    group = len(at_least) - 1 - int(np.searchsorted(at_least[::-1], k))
    above = int(at_least[group + 1]) if group + 1 < len(at_least) else 0
    return group, int(at_least[group]) - above, k - above


def _divide(
    engine: Engine, parts: Sequence[Deltas], index: int, table: QuantileTable, search: _Search
) -> list[Cut] | _Search:
    """Count the values of a frequent group, once."""
    counts = np.zeros(search.high - search.low, np.int64)
    for part in parts:
        base, parents = part.load()
        counts += engine.within(base, parents[index], search.low, search.high)
    values = counts.nonzero()[0]
    table.divided[search.low] = values + search.low, counts[values][::-1].cumsum()[::-1]
    return _of_values(parts, *table.divided[search.low], search.needed)


def _from_list(parts: Sequence[Deltas], seen: Sequence[Survey], needed: int) -> list[Cut]:
    """Rank the few entries that a survey listed."""
    bits = np.concatenate([each.bits for each in seen])
    threshold = int(np.partition(bits, len(bits) - needed)[len(bits) - needed])
    equal = needed - int((bits > threshold).sum())
    made = []
    for part, each in zip(parts, seen, strict=True):
        here = each.places[each.bits == threshold]
        made.append(Cut(_value(threshold), part.n if equal >= len(here) else int(here[equal]) if equal else 0))
        equal = max(0, equal - len(here))
    return made


def _share_out(
    engine: Engine, parts: Sequence[Deltas], index: int, seen: Sequence[Survey], bits: int, needed: int
) -> list[Cut]:
    """Keep the first `needed` of the entries with these bits, whose counts are known."""
    made = []
    for part, survey in zip(parts, seen, strict=True):
        if needed in (0, survey.n) or needed > survey.n:
            limit = part.n if needed else 0
        else:
            passed = survey.counts.cumsum()
            piece = int(np.searchsorted(passed, needed))
            before = int(passed[piece - 1]) if piece else 0
            start, stop = piece * PIECE, min(part.n, (piece + 1) * PIECE)
            base, parents = part.load()
            limit = engine.nth(base, parents[index], start, stop, bits, needed - before) + 1
        made.append(Cut(_value(bits), limit))
        needed = max(0, needed - survey.n)
    return made


def _value(bits: int) -> float:
    return float(np.array(bits, np.int32).view(np.float32))
