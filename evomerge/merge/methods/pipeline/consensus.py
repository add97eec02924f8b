"""The third slot: which entries of the sparse task vectors count, after TIES (https://arxiv.org/abs/2306.01708).

    sum     those with the sign of Σ w_i τ̂_i
    count   those with the sign of Σ sign τ̂_i, the majority's

A draw elects +, and an entry that is 0 never counts. Without a consensus, every entry counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def agreeing(sparse: Sequence[torch.Tensor], *, weight: Sequence[float], consensus: str) -> list[torch.Tensor]:
    """Return, for each τ̂_i, where it has the elected sign.

    Args:
        sparse: τ̂_i.
        weight: w_i of the weighted sum.
        consensus: "sum" or "count".
    """
    import torch

    votes = torch.zeros_like(sparse[0])
    for w, tau in zip(weight, sparse, strict=True):
        if consensus == "count":
            votes += tau.sign()
        else:
            votes += tau * w
    positive = votes >= 0
    return [(tau != 0) & ((tau > 0) == positive) for tau in sparse]
