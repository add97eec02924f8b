"""The second and the fourth slot: the weights, and what they make of the entries that count.

sum            Δ = Σ w_i τ̂_i
mean           Δ = Σ w_i τ̂_i / Σ w_i
disjoint_mean  Δ = Σ_A w_i τ̂_i / Σ_A w_i, where A are the parents whose entry counts and is not 0 (TIES)
sce            the disjoint mean with w_i · mean(τ̂_i²) for w_i (SCE, https://arxiv.org/abs/2408.07990)
ram            the disjoint mean, where what one parent alone changes may count more (RAM,
               https://arxiv.org/abs/2601.13572)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evomerge.merge.methods.base import weighted_sum

if TYPE_CHECKING:
    import torch

DISJOINT = ("disjoint_mean", "sce", "ram")
"""The aggregates that divide by the weights of the parents that agree."""


def summed(sparse: Sequence[torch.Tensor], weight: Sequence[float], counts: Sequence[torch.Tensor] | None
           ) -> torch.Tensor:  # fmt: skip
    """Return Σ w_i τ̂_i, of the entries that count (None: of all)."""
    import torch

    if counts is None:
        return weighted_sum(sparse, weight)
    total = torch.zeros_like(sparse[0])
    for w, tau, here in zip(weight, sparse, counts, strict=True):
        total += torch.where(here, tau * w, 0.0)
    return total


def disjoint_mean(
    sparse: Sequence[torch.Tensor],
    weight: Sequence[float],
    counts: Sequence[torch.Tensor] | None,
    alone: Sequence[float] = (),
) -> torch.Tensor:
    """Return the weighted mean of the entries that count and are not 0; where there are none, it is 0.

    Args:
        sparse: τ̂_i.
        weight: w_i > 0.
        counts: where each τ̂_i counts; None: everywhere.
        alone: factors of each parent for entries in which it is the only one; empty: 1.
    """
    import torch

    there = [tau != 0 for tau in sparse] if counts is None else counts
    total, divisor = summed(sparse, weight, counts), torch.zeros_like(sparse[0])
    for w, here in zip(weight, there, strict=True):
        divisor += here * w
    total.div_(divisor.masked_fill_(divisor == 0, 1.0))  # where no parent counts, the total is 0
    if not alone:
        return total
    number, factor = torch.zeros_like(total), torch.zeros_like(total)
    for boost, here in zip(alone, there, strict=True):
        number += here
        factor += here * boost
    return torch.where(number == 1, total * factor, total)


def energy_weights(weight: Sequence[float], energy: Sequence[float]) -> tuple[float, ...]:
    """Return SCE's weights: w_i times the share of each ‖τ̂_i‖² in their sum; without any energy, the weights."""
    total = sum(energy)
    return tuple(w * e / total for w, e in zip(weight, energy, strict=True)) if total > 0.0 else tuple(weight)


def energy(task_vector: torch.Tensor) -> float:
    """Return ‖τ‖², added up in float64 in an order that depends on no thread or device."""
    from evomerge.merge.kernels.torch_engine import TorchEngine

    return TorchEngine().dots(task_vector, task_vector)[0]


def overlap_factors(overlaps: Sequence[tuple[int, int]], *, r: float, alpha: float) -> tuple[float, ...]:
    """Return RAM+'s factor of each parent, 1 + r · min(ρ_i, α), with ρ_i its shared entries over its unique ones."""

    def rho(shared: int, unique: int) -> float:
        return shared / unique if unique else math.inf if shared else 0.0

    return tuple(1.0 + r * min(rho(*each), alpha) for each in overlaps)


def overlaps(there: Sequence[torch.Tensor]) -> list[tuple[int, int]]:
    """Return how many entries each parent changes together with another one, and how many it alone changes."""
    import torch

    number = torch.zeros(there[0].shape, dtype=torch.int32, device=there[0].device)
    for here in there:
        number += here
    return [(int((here & (number > 1)).sum()), int((here & (number == 1)).sum())) for here in there]
