"""What is done to the singular values of a merged delta: made even (Iso), or cut to the largest (LASER).

https://arxiv.org/abs/2502.04959 and https://arxiv.org/abs/2312.13558; `iso` and `laser` hold the methods themselves.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evomerge.merge.methods.matrices import (
    TOLERANCE,
    Svd,
    holds_matrices,
    kept_svds,
    low_rank_sum,
    over_matrices,
    smaller_side,
    thin_svd,
)
from evomerge.merge.methods.tensor_at import TensorAt

if TYPE_CHECKING:
    import torch


def isotropic(delta: torch.Tensor, at: TensorAt, *, beta: float = 1.0, tolerance: float = TOLERANCE) -> torch.Tensor:
    """Return a merged delta with the singular values of each matrix moved to their mean: Σ' = (1 − β) Σ + β σ̄.

    Args:
        delta: Δ, fp32 (or wider); it is not changed.
        at: its place. What holds no matrices is returned as it is.
        beta: β; 0 changes nothing, 1 makes all singular values equal.
        tolerance: singular values up to this share of the largest stay 0 and do not count in the mean.

    Returns:
        fp32, of the shape of `delta`, on its device.
    """
    if beta == 0.0 or not holds_matrices(at):
        return delta
    (even,) = over_matrices(lambda row: [_even(row[0], tolerance)], at, [delta])
    return between(delta, even, beta)


def _even(matrix: torch.Tensor, tolerance: float) -> torch.Tensor:
    found = thin_svd(matrix, tolerance)
    return (found.u @ found.vt) * found.sigma.mean() if found.rank else matrix * 0.0


def between(delta: torch.Tensor, even: torch.Tensor, beta: float) -> torch.Tensor:
    """Return (1 − β) Δ + β of the same with even singular values."""
    return even if beta == 1.0 else delta * (1.0 - beta) + even * beta


def low_rank(delta: torch.Tensor, at: TensorAt, *, rank: float) -> torch.Tensor:
    """Return a merged delta (or a weight) whose matrices are cut to their largest singular values.

    Args:
        delta: fp32 (or wider); it is not changed.
        at: its place. What holds no matrices is returned as it is.
        rank: ρ, the share of singular values that stay: k = ⌊ρ·r⌋ of the r of each matrix.

    Returns:
        fp32, of the shape of `delta`, on its device.
    """
    if rank == 1.0 or not holds_matrices(at):
        return delta
    return cut(kept_svds(delta, at), at, rank, delta.device)


def cut(decomposed: list[Svd], at: TensorAt, rank: float, device: torch.device) -> torch.Tensor:
    """Return the same from the decompositions of a tensor's matrices; see `evomerge.merge.methods.matrices`."""
    return low_rank_sum([decomposed], [1.0], math.floor(rank * smaller_side(at)), at, device)
