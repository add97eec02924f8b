"""Tensors that are a low-rank change of another one, and weighted sums of them without a dense task vector.

A tensor θ_i = g_i ⊙ (θ0 + s_i · L_i · R_i) is known by its factors L_i (its B) and R_i (its A), its scale s_i, and for
DoRA by the lengths g_i of its rows or columns. A weighted sum of several on the same θ0 is

    Σ w_i θ_i = (Σ w_i g_i) ⊙ θ0 + [w_1 s_1 g_1 ⊙ L_1, w_2 s_2 g_2 ⊙ L_2, …] · [R_1; R_2; …]

so all their factors are one product, which is computed in blocks of rows and added to θ0 with one cast at the end. A
and B are never averaged apart from each other: the mean of B_i · A_i is not the product of the means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evomerge.merge.kernels.engine import KernelEngine
from evomerge.merge.kernels.parallel import CHUNK, n_threads
from evomerge.merge.kernels.program import Program

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LowRankChange:
    """A change of a tensor that is seen as n matrices of rows × columns.

    Attributes:
        left: L, `(n, rows, r)`, of any floating-point type.
        right: R, `(n, r, columns)`.
        scale: s.
        gain: g in fp32, `(rows,)` or `(columns,)`, for DoRA, where n is 1; None: 1.
        by_column: whether the gain is one number for each column.
    """

    left: torch.Tensor
    right: torch.Tensor
    scale: float
    gain: torch.Tensor | None = None
    by_column: bool = False

    @property
    def rank(self) -> int:
        """The rank r."""
        return int(self.right.shape[1])


@dataclass(frozen=True)
class Summand:
    """One summand, w · θ, where θ is a tensor θ0 that all terms share, with a change of its own or none."""

    weight: float
    change: LowRankChange | None


def write_sum(
    engine: KernelEngine,
    origin: torch.Tensor,
    terms: Sequence[Summand],
    others: Sequence[tuple[float, torch.Tensor]],
    out: torch.Tensor,
    roundings: Sequence[torch.dtype] = (),
) -> int | torch.Tensor:
    """Write Σ w_i θ_i into a tensor, the terms' and that of other tensors, with scratch memory for a few rows.

    Args:
        engine: computes.
        origin: θ0, contiguous, on out's device.
        terms: the tensors on θ0, at least one of which has a change.
        others: weights and further tensors, contiguous, on out's device.
        out: contiguous.
        roundings: types to which the sum is rounded before out's own, at most two.

    Returns:
        Whether an entry of the result is not finite, as `KernelEngine.run`.
    """
    import torch

    changed = [(term.weight, term.change) for term in terms if term.change is not None]
    n, rows, columns = (*changed[0][1].left.shape[:2], changed[0][1].right.shape[2])
    weight, by_column = _weight_of_origin(terms)
    sources = [tensor.reshape(n, rows, columns) for tensor in (origin, *(tensor for _, tensor in others))]
    target = out.view(n, rows, columns)
    step = max(1, (CHUNK * n_threads() if out.device.type == "cpu" else 1 << 24) // max(1, columns))
    if step < rows:
        step = max(4, step // 4 * 4)
    scratch = torch.empty((min(step, rows), columns), dtype=torch.float32, device=out.device)
    bad: int | torch.Tensor = 0
    for k in range(n):
        left, right = _stacked(changed, k, out.device)
        for first in range(0, rows, step):
            part = slice(first, min(first + step, rows))
            made, (start, *rest) = scratch[: part.stop - first], [source[k, part] for source in sources]
            engine.product(left[part], right, made)
            inputs, weights = [*rest, made], [*(w for w, _ in others), 1.0]
            if isinstance(weight, float):
                inputs, weights = [start, *inputs], [weight, *weights]
            else:
                own = torch.from_numpy(weight).to(out.device)
                made += start.float() * (own[None] if by_column else own[part, None])
            found = engine.run(Program(weight=tuple(weights)), None, inputs, target[k, part], roundings=roundings)
            bad = found | bad if isinstance(found, torch.Tensor) else max(found, int(bad))
    return bad


def _weight_of_origin(terms: Sequence[Summand]) -> tuple[float | np.ndarray, bool]:
    """Return by what θ0 is multiplied: one number, or fp32 numbers for its rows (or columns: then true)."""
    total: float | np.ndarray = 0.0
    by_column = False
    for term in terms:
        gain = None if term.change is None else term.change.gain
        total = total + term.weight * (1.0 if gain is None else gain.double().numpy())
        by_column = by_column or (gain is not None and term.change is not None and term.change.by_column)
    return (float(total), False) if isinstance(total, float) else (total.astype(np.float32), by_column)


def _stacked(
    changed: Sequence[tuple[float, LowRankChange]], k: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factors of all changes of the k-th matrix in fp32, weights and scales multiplied in."""
    import torch

    lefts, rights = [], []
    for weight, change in changed:
        left, right = change.left[k].to(device).float(), change.right[k].to(device).float()
        factor = weight * change.scale
        if left.numel() <= right.numel():
            left = left * factor
        else:
            right = right * factor
        if change.gain is not None:
            gain = change.gain.to(device)
            left, right = (left, right * gain) if change.by_column else (left * gain[:, None], right)
        lefts.append(left)
        rights.append(right)
    return torch.cat(lefts, dim=1).contiguous(), torch.cat(rights).contiguous()
