"""Entries by their rank among those of many tensors that are not in memory at once: exact, in two passes.

The bits of fp32 numbers, those of negative ones turned round, sort as the numbers do. A first pass counts entries by
the upper half of these bits (`Spread`); a second one counts, within the half that a rank falls into, by the lower half
(`RankSearch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_BINS = 1 << 16


def _keys(entries: torch.Tensor) -> torch.Tensor:
    """Return the bits of fp32 entries as `(n,)` int32, which sort as the entries do."""
    import torch

    bits = entries.reshape(-1).contiguous().view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


class Spread:
    """How the entries of a row, given tensor by tensor, are spread.

    Attributes:
        counts: `(65536,)` int64, how many entries there are by the upper half of their bits, rising.
        most: the largest entry so far.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS, np.int64)
        self.most = -np.inf

    def add(self, entries: torch.Tensor) -> None:
        """Count the entries of a tensor of at least one."""
        upper = (_keys(entries) >> 16) + _BINS // 2
        self.counts += upper.bincount(minlength=_BINS).cpu().numpy()
        self.most = max(self.most, float(entries.max()))

    @property
    def n(self) -> int:
        """How many entries were counted."""
        return int(self.counts.sum())

    @property
    def n_bytes(self) -> int:
        """Its size in memory."""
        return self.counts.nbytes


class RankSearch:
    """The second pass, which finds entries of a row by their ranks.

    Args:
        spread: of all entries of the row.
        ranks: from 0, the least entry, each below the number of entries.
    """

    def __init__(self, spread: Spread, ranks: Sequence[int]) -> None:
        upto = spread.counts.cumsum()
        bins = [int(np.searchsorted(upto, rank, side="right")) for rank in ranks]
        self._places = [
            (place, rank - int(upto[place - 1]) if place else rank) for place, rank in zip(bins, ranks, strict=True)
        ]
        self._lower = {place: np.zeros(_BINS, np.int64) for place in bins}

    def add(self, entries: torch.Tensor) -> None:
        """Count the entries of a tensor that may be meant; give it the tensors that the spread was given."""
        keys = _keys(entries)
        upper = (keys >> 16) + _BINS // 2
        for place, counts in self._lower.items():
            inside = (keys[upper == place] & 0xFFFF).bincount(minlength=_BINS)
            counts += inside.cpu().numpy()

    def found(self) -> list[float]:
        """Return the entry of each rank."""
        values = []
        for place, rank in self._places:
            lower = int(np.searchsorted(self._lower[place].cumsum(), rank, side="right"))
            key = (place - _BINS // 2) * _BINS + lower
            bits = key if key >= 0 else key ^ 0x7FFFFFFF
            values.append(float(np.array(bits, np.int64).astype(np.int32).view(np.float32)))
        return values
