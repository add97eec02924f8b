"""What a fused kernel computes for one tensor, as data; each implementation of it gives the same bits.

With x_i a parent (or its task vector θ_i − θ0, where there is a base), masked where a mask is given:

    sum        Σ w_i x_i
    disjoint   TIES' sign election and disjoint mean of the x_i, or that mean without an election (RAM)

and then, where there is a base, θ0 + λ · that. All in fp32, in this order and without fused multiply-add: a product is
rounded before it is added, so that numba, torch and a GPU agree to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Cut:
    """Which entries of a task vector a trim keeps.

    It keeps every |τ| above `threshold`, and those equal to it whose flat index is below `limit`.
    """

    threshold: float
    limit: int


@dataclass(frozen=True)
class Drop:
    """Which entries of a task vector DARE keeps: those whose random number is below `density`; they are rescaled.

    Attributes:
        density: share that is kept, in (0, 1].
        seed: key of the random numbers; see `evomerge.merge.kernels.philox`.
        rescaled: whether what is kept is divided by the chance to be kept.
    """

    density: float
    seed: int
    rescaled: bool = True

    @property
    def below(self) -> int:
        """The bound in [1, 2^16] below which an entry's 16 random bits must be to keep it: density · 2^16, rounded."""
        return max(1, round(self.density * 65536))

    @property
    def rescale(self) -> float:
        """One over the chance to be kept, as fp32; the chance is the 16-bit fraction, so the mean stays that of τ."""
        return float(np.float32(65536 / self.below)) if self.rescaled else 1.0


@dataclass(frozen=True)
class Band:
    """Which entries of a task vector Breadcrumbs keeps: those that `kept` keeps, but for those that `removed` keeps."""

    removed: Cut
    kept: Cut


@dataclass(frozen=True, eq=False)
class Ranked:
    """Which entries of a task vector are kept by their rank in their row, and what they are multiplied by.

    Attributes:
        ranks: `(q,)` int16 or int32, on the device of the task vector: how many entries of its row go before each
            entry, which is 0 for the largest |τ|.
        below: `(n,)` int32, for each rank of a row of n entries: an entry is kept if its random number is below this;
            0: never, 2^16: always.
        rescale: `(n,)` fp32, for each rank: the factor of what is kept.
        seed: key of the random numbers; None: there is no chance, neighbouring ranks are kept, and all factors are 1.
    """

    ranks: torch.Tensor
    below: np.ndarray
    rescale: np.ndarray
    seed: int | None = None


@dataclass(frozen=True)
class Clip:
    """Brings the entries of a task vector into [−most, most]."""

    most: float


Mask: TypeAlias = Cut | Drop | Clip | Band | Ranked
"""What is done to the entries of a task vector before they are weighed."""


@dataclass(frozen=True)
class Program:
    """The element-wise work for one tensor.

    Attributes:
        weight: w_i, one for each parent.
        scale: λ.
        masks: one for each parent; empty: there are none.
        disjoint: whether TIES' election and disjoint mean replace the sum.
        by_count: whether the majority's sign is elected rather than the weighted sum's.
        normalize: whether to divide by the weights of the parents that agree.
        votes: the weights of the election, where they are others than `weight`.
        elect: whether a sign is elected; if not, every x_i that is not 0 agrees.
        alone: without an election, a factor for each parent where no other x_i is different from 0; empty: 1.
    """

    weight: tuple[float, ...]
    scale: float = 1.0
    masks: tuple[Mask, ...] = ()
    disjoint: bool = False
    by_count: bool = False
    normalize: bool = True
    votes: tuple[float, ...] = ()
    elect: bool = True
    alone: tuple[float, ...] = ()

    @property
    def simple(self) -> bool:
        """Whether it has only what sums, TIES, DARE and NearSwap need, for which each engine has its fastest kernel."""
        few = all(isinstance(mask, (Cut, Drop, Clip)) for mask in self.masks)
        return few and self.elect and not self.votes


@dataclass(frozen=True)
class BitRange:
    """The entries that a survey looks for in one task vector: those whose |τ| has bits in [low, high).

    Entries with exactly the bits `value` (−1: none) are only counted; the others are listed.
    """

    low: int
    high: int
    value: int = -1


@dataclass(frozen=True)
class Survey:
    """What a survey found in one task vector.

    Attributes:
        n: how many entries have the bits `value`.
        bits: `(n_listed,)` int32, the bits of the other entries.
        places: `(n_listed,)` int64, the flat indices of the other entries, rising.
    """

    n: int
    bits: np.ndarray
    places: np.ndarray
