"""Tables of quantiles of |τ|, so that another density of a trim needs no sort.

As fp32, the bits of non-negative numbers sort as the numbers do, so ranking means counting bits. A table divides the
entries of one task vector, or of a whole model's, into a few thousand groups by magnitude. It says at once which group
the k-th largest entry is in, and only within that group is anything left to decide: by looking at its few entries; or,
where few values are frequent (bf16 parents have few distinct deltas), by counting them once and finding where the n-th
of the value lies, of which the lowest flat indices are kept. The kept set is that of a stable sort.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from evomerge.merge.kernels.engine import Engine
from evomerge.merge.kernels.program import Cut

if TYPE_CHECKING:
    import torch

GROUPS = 4096
"""Groups of a table, about; a range then holds one entry in 4096."""

FREQUENT = 1024
"""A bin with more than one entry in so many is not collected, but counted value by value."""

_SHIFT = 11


@dataclass(frozen=True)
class Deltas:
    """A task vector that need not be in memory: `load` gives θ0 and θ, contiguous and of n entries."""

    n: int
    load: Callable[[], tuple[torch.Tensor, torch.Tensor]]


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


def make_table(engine: Engine, parts: Sequence[Deltas]) -> QuantileTable:
    """Count the magnitudes of one or more task vectors, in one pass over them."""
    counts = np.zeros(1 << 31 - _SHIFT, np.int64)
    for part in parts:
        engine.histogram(*part.load(), _SHIFT, counts)
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


def cuts(engine: Engine, parts: Sequence[Deltas], table: QuantileTable, k: int) -> list[Cut]:
    """Return for each task vector the cut that keeps the k largest |τ| of all; of equal ones those that come first."""
    if k <= 0:
        return [Cut(math.inf, 0)] * len(parts)
    group, size, needed = _group(table.at_least, k)
    low, high = int(table.low[group]), int(table.high[group])
    if needed == size:
        return [Cut(_value(low), part.n) for part in parts]
    if size > _frequent(table.n):
        values, at_least = _divide(engine, parts, table, low, high)
        group, size, needed = _group(at_least, needed)
        low = int(values[group])
        if needed == size:
            return [Cut(_value(low), part.n) for part in parts]
        if low == 0:  # of zeros, kept and dropped ones are the same
            return [Cut(0.0, 0)] * len(parts)
        return _share_out(engine, parts, low, needed)
    found = [engine.collect(*part.load(), low, high) for part in parts]
    bits = np.concatenate([values for values, _ in found])
    threshold = int(np.partition(bits, size - needed)[size - needed])
    equal = needed - int((bits > threshold).sum())
    made = []
    for part, (values, indices) in zip(parts, found, strict=True):
        here = indices[values == threshold]
        made.append(Cut(_value(threshold), part.n if equal >= len(here) else int(here[equal]) if equal else 0))
        equal = max(0, equal - len(here))
    return made


def _group(at_least: np.ndarray, k: int) -> tuple[int, int, int]:
    """Return the group that holds the k-th largest entry, its size, and how many of it are among the k largest."""
    group = len(at_least) - 1 - int(np.searchsorted(at_least[::-1], k))
    above = int(at_least[group + 1]) if group + 1 < len(at_least) else 0
    return group, int(at_least[group]) - above, k - above


def _divide(
    engine: Engine, parts: Sequence[Deltas], table: QuantileTable, low: int, high: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a frequent bin, and how many entries of it are at least each; found once."""
    if low not in table.divided:
        counts = sum((engine.within(*part.load(), low, high) for part in parts), np.zeros(high - low, np.int64))
        values = counts.nonzero()[0]
        table.divided[low] = (values + low, counts[values][::-1].cumsum()[::-1])
    return table.divided[low]


def _share_out(engine: Engine, parts: Sequence[Deltas], bits: int, needed: int) -> list[Cut]:
    """Keep the first `needed` of the entries with these bits."""
    made = []
    for part in parts:
        if needed == 0:
            made.append(Cut(_value(bits), 0))
            continue
        index, passed = engine.nth(*part.load(), bits, bits + 1, needed)
        made.append(Cut(_value(bits), part.n if index < 0 else index + 1))
        needed -= passed
    return made


def _value(bits: int) -> float:
    return float(np.array(bits, np.int32).view(np.float32))
