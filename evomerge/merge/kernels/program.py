"""What a fused kernel computes for one tensor, as data; each implementation of it gives the same bits.

With x_i a parent (or its task vector θ_i − θ0, where there is a base), masked where a mask is given:

    sum        Σ w_i x_i
    disjoint   TIES' sign election and disjoint mean of the x_i

and then, where there is a base, θ0 + λ · that. All in fp32, in this order and without fused multiply-add: a product is
rounded before it is added, so that numba, torch and a GPU agree to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cut:
    """Which entries of a task vector a trim keeps.

    Every |τ| above `threshold`, and those equal to it whose flat index is below `limit`.
    """

    threshold: float
    limit: int


@dataclass(frozen=True)
class Drop:
    """Which entries of a task vector DARE keeps: those whose random number is below `density`; they are rescaled.

    Attributes:
        density: share that is kept, in (0, 1].
        seed: key of the random numbers; see `evomerge.merge.kernels.philox`.
    """

    density: float
    seed: int

    @property
    def below(self) -> int:
        """An entry is kept where its 16 random bits are less than this, in [1, 2^16]: density · 2^16, rounded."""
        return max(1, round(self.density * 65536))

    @property
    def rescale(self) -> float:
        """One over the chance to be kept (which is the 16-bit fraction, so the mean stays that of τ), as fp32."""
        return float(np.float32(65536 / self.below))


@dataclass(frozen=True)
class Program:
    """The element-wise work for one tensor.

    Attributes:
        weight: w_i, one for each parent.
        scale: λ.
        masks: one for each parent, or empty for none at all.
        disjoint: TIES' election and disjoint mean instead of the sum.
        by_count: elect the sign of the majority instead of the weighted sum's.
        normalize: divide by the weights of those that agree.
    """

    weight: tuple[float, ...]
    scale: float = 1.0
    masks: tuple[Cut | Drop, ...] = ()
    disjoint: bool = False
    by_count: bool = False
    normalize: bool = True


@dataclass(frozen=True)
class BitRange:
    """What a survey looks for in one task vector: the entries whose |τ| has bits in [low, high).

    Those with just the bits `value`, which is one of them or −1 for none, are only counted; the others are listed.
    """

    low: int
    high: int
    value: int = -1


@dataclass(frozen=True)
class Survey:
    """What a survey found of one task vector.

    Attributes:
        n: how many entries have the bits `value`.
        bits: int32, those of each of the others.
        places: int64, the flat index of each of the others, rising.
    """

    n: int
    bits: np.ndarray
    places: np.ndarray
