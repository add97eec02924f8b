"""The best approximation of a matrix by a product of two thin ones, and how far it is from the matrix.

By Eckart and Young, the r largest singular values with their vectors are the best rank-r approximation in the Frobenius
norm. The vectors come from the smaller Gram matrix, in float64: U Uᵀ D is then the projection of D on them, whose
error does not depend on the accuracy of small singular values, and it costs a fifth of a full decomposition. One
thread computes, so the bytes do not follow the number of threads; signs are fixed by the largest entry of each vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

ZERO = 1e-12
"""Eigenvalues of the Gram matrix up to this share of the largest are rounding: squares of singular values of 1e-6."""


@dataclass(frozen=True)
class LowRank:
    """D ≈ B A.

    Attributes:
        b: `(m, r)` float32.
        a: `(r, n)` float32.
        squared: ‖D‖², Frobenius.
        squared_error: ‖D − B A‖², with the rounding of both to float32.
    """

    b: torch.Tensor
    a: torch.Tensor
    squared: float
    squared_error: float

    @property
    def rank(self) -> int:
        """How many columns B has."""
        return self.b.shape[1]


def low_rank(matrix: torch.Tensor, rank: int | None, error: float) -> LowRank:
    """Return the best approximation of a matrix at a rank, or at the least rank with a wanted error.

    Call it within `evomerge.merge.methods.matrices.one_thread`.

    Args:
        matrix: `(m, n)` float64.
        rank: the most columns of B; None: as few as the error asks for.
        error: largest ‖D − B A‖ / ‖D‖, where there is no rank.

    Returns:
        It, with at least one column.
    """
    turned = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if turned else matrix
    values, vectors = torch.linalg.eigh(wide @ wide.T)
    values, vectors = values.flip(0).clamp_min(0.0), vectors.flip(1)
    kept = int((values > ZERO * values[:1]).sum())
    squared = float((matrix * matrix).sum())
    if rank is None:
        lost = squared - torch.cumsum(values, 0)
        enough = (lost <= (error * error) * squared).nonzero()
        rank = int(enough[0, 0]) + 1 if len(enough) else len(values)
    r = max(1, min(rank, kept))
    u = vectors[:, :r]
    u = u * _signs(u)
    root = values[:r].clamp_min(ZERO * max(float(values[0]), 1e-300)).pow(0.25)  # of σ², so that both have √σ
    left, right = u * root, (u.T @ wide) / root[:, None]
    b, a = (right.T, left.T) if turned else (left, right)
    b, a = b.float().contiguous(), a.float().contiguous()
    rest = matrix - b.double() @ a.double()
    return LowRank(b, a, squared, float((rest * rest).sum()))


def padded(parts: Sequence[LowRank], rank: int) -> list[LowRank]:
    """Return approximations of the same rank, with columns and rows of zeros."""
    return [
        LowRank(
            torch.nn.functional.pad(one.b, (0, rank - one.rank)),
            torch.nn.functional.pad(one.a, (0, 0, 0, rank - one.rank)),
            one.squared,
            one.squared_error,
        )
        for one in parts
    ]


def relative(squared_error: float, squared: float) -> float:
    """Return ‖D − B A‖ / ‖D‖; 0 for a difference of zeros."""
    return math.sqrt(squared_error / squared) if squared > 0.0 else 0.0


def _signs(vectors: torch.Tensor) -> torch.Tensor:
    """Return `(r,)` 1 or -1 by which the entry of each column that is the largest becomes positive."""
    largest = vectors.abs().argmax(0)
    signs = torch.sign(vectors[largest, torch.arange(vectors.shape[1])])
    return torch.where(signs == 0.0, torch.ones_like(signs), signs)
