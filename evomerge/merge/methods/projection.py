"""The projection of OPCM: a matrix without what lies in the leading singular directions of what was merged before.

https://arxiv.org/abs/2501.09522, in three variants: as FusionBench has it, as the authors' code, as the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evomerge.merge.methods.base import in_double
from evomerge.merge.methods.matrices import Svd, matrices, one_thread, rejoin
from evomerge.merge.methods.tensor_at import TensorAt

if TYPE_CHECKING:
    import torch

FUSION_BENCH, OFFICIAL, PAPER = "fusion_bench", "official", "paper"

_SLACK = 1e-6
"""How far a cumulative share of singular values may miss α by rounding; singular values as near as this are equal."""


def split_rank(sigma: Sequence[float], alpha: float, variant: str) -> int:
    """Return r, how many leading singular directions are protected.

    fusion_bench and official: the largest r with Σ_{i≤r} σ_i ≤ α Σσ. paper: the smallest with Σ_{i≤r} σ_i ≥ α Σσ. Both
    are 0 for α = 0 and all for α = 1. A cut between equal singular values, whose vectors are not unique, moves to
    behind the last of them.
    """
    if alpha >= 1.0:
        return len(sigma)
    total, sum_, r = math.fsum(sigma), 0.0, 0
    for value in sigma:
        if variant == PAPER and sum_ >= (alpha - _SLACK) * total:
            break
        sum_ += value
        if variant != PAPER and sum_ > (alpha + _SLACK) * total:
            break
        r += 1
    while 0 < r < len(sigma) and sigma[r - 1] - sigma[r] <= _SLACK * sigma[0]:
        r += 1
    return r


def project(delta: torch.Tensor, before: Svd, alpha: float, variant: str) -> torch.Tensor:
    """Return P(D): a matrix without what lies in the leading singular directions of what was merged before.

    With p_ij = u_iᵀ D v_j, fusion_bench takes out the block i, j < r and the diagonal i = j, official the block alone,
    paper everything with i < r or j < r and the diagonal. The diagonal ends with the numerical rank, since the
    directions beyond are arbitrary.

    Args:
        delta: D, float64 `(m, n)`.
        before: the decomposition of Z, up to its numerical rank.
        alpha: α.
        variant: one of the three names.
    """
    import torch

    u, v = before.u.double(), before.vt.double().T
    r = split_rank(before.sigma.tolist(), alpha, variant)
    if variant == PAPER:
        kept = delta - u[:, :r] @ (u[:, :r].T @ delta)
        kept = kept - (kept @ v[:, :r]) @ v[:, :r].T
        diagonal = ((u[:, r:].T @ delta) * v[:, r:].T).sum(dim=1)
        return kept - (u[:, r:] * diagonal) @ v[:, r:].T
    p = u.T @ delta @ v
    out = torch.diag(p.diagonal()) if variant == FUSION_BENCH else torch.zeros_like(p)
    out[:r, :r] = p[:r, :r]
    return delta - u @ out @ v.T


def advance(
    z: torch.Tensor, base: torch.Tensor, parent: torch.Tensor, weight: float, at: TensorAt, svds: Sequence[Svd],
    alpha: float, variant: str, *, in_place: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Return Z + P(w·τ) of a tensor as fp32 on the CPU.

    Args:
        z: Z before, fp32.
        base: θ0.
        parent: θ_t.
        weight: w.
        at: the tensor's place.
        svds: the decomposition of each matrix of Z; empty: the tensor holds none, and P changes nothing.
        alpha, variant: see `project`.
        in_place: whether Z before is not needed any more, so that a tensor without matrices may take its memory.
    """
    if not svds:
        out = z if in_place else None
        return in_double(lambda before, theta, theta0: before + weight * (theta - theta0), z, parent, base, out=out)
    with one_thread():
        rows = zip(matrices(z, at), matrices(base, at), matrices(parent, at), svds, strict=True)
        parts = [
            before + project(weight * (theta - theta0), svd, alpha, variant) for before, theta0, theta, svd in rows
        ]
        return rejoin(parts, at, z.device)
