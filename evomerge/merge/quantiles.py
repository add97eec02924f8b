"""Tables of quantiles of |τ|, so that another density of a trim needs no sort.

As fp32, the bits of non-negative numbers sort as the numbers do, so ranking means counting bits. A table divides the
entries of one task vector, or of a whole model's, into a few thousand groups by magnitude: single values where they are
frequent (bf16 parents have few distinct deltas), ranges otherwise. It says at once which group the k-th largest entry
is in; only within that group is anything left to decide, by looking at its few entries (a range) or at where the n-th
one lies (a single value, of which the lowest flat indices are kept). The kept set is that of a stable sort.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evomerge.merge.kernels.engine import Engine
from evomerge.merge.kernels.program import Cut

GROUPS = 4096
"""Groups of a table, about; a range then holds one entry in 4096."""

FREQUENT = 1024
"""Bins with more than this share of the entries are divided into their single values."""

_SHIFT = 11
_ROWS = 512  # bins that are divided in one pass: 4 MiB of counters
_UPPER = 1 << 31 - _SHIFT
_LOWER = 1 << _SHIFT


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
    """

    low: np.ndarray
    high: np.ndarray
    at_least: np.ndarray

    @property
    def n(self) -> int:
        """Number of entries."""
        return int(self.at_least[0]) if len(self.at_least) else 0

    @property
    def n_bytes(self) -> int:
        """Its size in memory."""
        return self.low.nbytes + self.high.nbytes + self.at_least.nbytes


def make_table(engine: Engine, parts: Sequence[Deltas]) -> QuantileTable:
    """Count the magnitudes of one or more task vectors: one pass, or up to three where values are frequent."""
    total = sum(part.n for part in parts)
    counts = np.zeros((1, _UPPER), np.int64)
    for part in parts:
        engine.histogram(*part.load(), _SHIFT, None, counts)
    bins = counts[0].nonzero()[0]
    size = counts[0, bins]
    frequent = size > max(1, total // FREQUENT)
    low, high, amount = [bins[~frequent] << _SHIFT], [bins[~frequent] + 1 << _SHIFT], [size[~frequent]]
    single = [np.zeros(len(low[0]), bool)]
    divided = bins[frequent]
    for some in (divided[at : at + _ROWS] for at in range(0, len(divided), _ROWS)):
        rows = np.full(_UPPER, -1, np.int32)
        rows[some] = np.arange(len(some))
        exact = np.zeros((len(some), _LOWER), np.int64)
        for part in parts:
            engine.histogram(*part.load(), _SHIFT, rows, exact)
        row, lower = exact.nonzero()
        values = (some[row] << _SHIFT) + lower
        low.append(values)
        high.append(values + 1)
        amount.append(exact[row, lower])
        single.append(np.ones(len(values), bool))
    order = np.concatenate(low).argsort()
    low_, high_, size, alone = (np.concatenate(each)[order] for each in (low, high, amount, single))
    # A single value stays by itself; neighbouring ranges are joined until one holds its share of the entries.
    share = (size.cumsum() - 1) * GROUPS // max(1, total)
    begins = np.ones(len(size), bool)
    begins[1:] = alone[1:] | alone[:-1] | (share[1:] != share[:-1])
    first = begins.nonzero()[0]
    last = np.append(first[1:], len(size)) - 1
    at_least = size[::-1].cumsum()[::-1]
    return QuantileTable(low_[first].astype(np.int32), high_[last].astype(np.int32), at_least[first])


def cuts(engine: Engine, parts: Sequence[Deltas], table: QuantileTable, k: int) -> list[Cut]:
    """Return for each task vector the cut that keeps the k largest |τ| of all; of equal ones those that come first."""
    if k <= 0:
        return [Cut(math.inf, 0)] * len(parts)
    # The last group (they rise) with at least k entries in it or above it.
    group = len(table.at_least) - 1 - int(np.searchsorted(table.at_least[::-1], k))
    above = int(table.at_least[group + 1]) if group + 1 < len(table.at_least) else 0
    size, needed = int(table.at_least[group]) - above, k - above
    low, high = int(table.low[group]), int(table.high[group])
    if needed == size:
        return [Cut(_value(low), part.n) for part in parts]
    if high == 1:  # of zeros, kept and dropped ones are the same
        return [Cut(0.0, 0)] * len(parts)
    if high == low + 1:
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
