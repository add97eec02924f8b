"""Arcee Fusion: the base takes over those of the parent's entries that matter most.

An entry's importance is |τ| times the divergence KL(p‖q) of its row, where p and q are the softmax of the parent's and
of the base's row. Entries whose importance reaches the median plus 1.5 times the interquartile range are the parent's
(https://www.arcee.ai/blog/meet-mergekit-v0-1-arcee-fusion-expanded-model-support-multi-gpu-acceleration).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evomerge.merge.methods.base import Inputs, Method, ParentTensors, too_small
from evomerge.merge.methods.gram import folded
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

SMOOTHING = 1e-8
"""What is added to each probability."""

_STEP = 1 << 20
"""How many entries of float64 are computed at a time."""


@dataclass(frozen=True)
class Importance:
    """What the importance of a tensor's entries comes from.

    Attributes:
        divergence: `(n_rows,)` fp32, KL(p‖q) of each row; on the CPU.
        quartiles: the order statistics ⌊q (n − 1)⌋ of the n entries' importance, for q = 1/4, 1/2 and 3/4.
    """

    divergence: torch.Tensor
    quartiles: tuple[float, float, float]

    def threshold(self, factor: float) -> float:
        """Return the importance from which on entries are the parent's."""
        low, middle, high = self.quartiles
        return float(np.float32(middle + factor * (high - low)))


def find_importance(base: torch.Tensor, parent: torch.Tensor) -> Importance:
    """Return what the importance of each entry comes from; both tensors of any floating-point type, of one shape.

    On the CPU whatever the device, so that the same entries are taken everywhere.
    """
    import torch

    x, y = _rows(base.cpu()), _rows(parent.cpu())
    divergence = torch.zeros(x.shape[0])
    step = max(1, _STEP // max(1, x.shape[1]))
    for start in range(0, x.shape[0], step):
        q, p = (_softmax(each[start : start + step]) + SMOOTHING for each in (x, y))
        divergence[start : start + step] = folded((p * (p / q).log()).T).clamp_(min=0.0)
    score = (y.float() - x.float()).abs_().mul_(divergence[:, None]).numpy().reshape(-1)
    if not score.size:
        return Importance(divergence, (0.0, 0.0, 0.0))
    ranks = [math.floor(q * (score.size - 1)) for q in (0.25, 0.5, 0.75)]
    low, middle, high = np.partition(score, ranks)[ranks].tolist()
    return Importance(divergence, (low, middle, high))


def fuse(base: torch.Tensor, parent: torch.Tensor, importance: Importance, *, factor: float) -> torch.Tensor:
    """Return the base with the parent's most important entries; fp32."""
    divergence = importance.divergence.to(base.device)
    tau = _rows(parent) - _rows(base)
    keep = tau.abs().mul_(divergence[:, None]) >= importance.threshold(factor)
    return tau.mul_(keep).view(base.shape).add_(base)


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() > 1 else tensor.reshape(1, -1)


def _softmax(rows: torch.Tensor) -> torch.Tensor:
    """Return the softmax of each row, in float64."""
    made = rows.double()
    made = (made - made.amax(dim=1, keepdim=True)).exp_() if made.shape[1] else made
    return made / folded(made.T)[:, None]


def _prepare(inputs: Inputs, tensors: ParentTensors) -> Importance:
    return tensors.once(
        ("importance", tensors.name),
        lambda: find_importance(inputs.origin, inputs.parents[0]),
        lambda found: found.divergence.nbytes + 64,
        what="the divergences of the parents' rows",
    )


def _merge(inputs: Inputs) -> torch.Tensor:
    base, parent = inputs.origin, inputs.parents[0]
    return fuse(base, parent, inputs.prepared or find_importance(base, parent), factor=inputs.number("iqr_factor"))


METHOD = Method(
    spec=MethodSpec(
        name="arcee_fusion",
        summary="base with the parent's most important entries, by their change and their row's divergence",
        paper="https://www.arcee.ai/blog/meet-mergekit-v0-1-arcee-fusion-expanded-model-support-multi-gpu-acceleration",
        topic="sparse task vectors",
        parameters=(
            Parameter(
                "iqr_factor", 1.5, 0.0, 3.0, doc="f: entries above median + f · interquartile range are the parent's"
            ),
        ),
        n_parents=(1, 1),
        formula="θ = θ0 + τ ⊙ [s ≥ median(s) + f (Q3(s) − Q1(s))], s = |τ| · KL(softmax θ_1 ‖ softmax θ0) by row",
        notes="Quartiles are exact, and divergences are computed in float64; mergekit draws a million entries of a "
        "larger tensor at random, and computes in the models' type. Where three quarters of the entries did not "
        "change, the threshold is 0 and all are the parent's. What is kept once per search are a number a row and the "
        "quartiles; a candidate then takes plain torch, several times slower than a fused pass.",
    ),
    merge=_merge,
    prepare=_prepare,
    active=lambda values: (0,),
    one_input=lambda values: None,
    problems=lambda values: too_small(values, "iqr_factor"),
)
