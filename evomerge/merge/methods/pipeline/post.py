"""The last slot: what is done to the merged Δ, and θ0 + λΔ.

With λ = 1 + α, θ0 + λΔ is also ExPO's step of α beyond the merge (https://arxiv.org/abs/2404.16792).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def added(base: torch.Tensor, delta: torch.Tensor, scale: float) -> torch.Tensor:
    """Return θ0 + λΔ, with `scale` for λ; Δ is changed in place."""
    return delta.mul_(scale).add_(base)
