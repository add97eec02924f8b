"""Consensus task arithmetic (TALL masks): θ = θ0 + λ keep ⊙ τ_M, τ_M = Σ w_i τ_i. https://arxiv.org/abs/2405.07813.

The mask of a task says which entries of the merged vector serve it: m_i = 1 where |τ_i| > λ_i |τ_M − τ_i|, that is
where taking the entry comes nearer to θ_i (with λ_i = 1) than leaving it. Entries that serve no task ("catastrophic")
or one alone ("selfish") are dropped: kept is what at least k masks hold. A mask compares with τ_i itself, whatever its
weight, since it is θ_i that is to be reached; the paper has no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from evomerge.merge.methods.base import (
    BASE,
    Inputs,
    Method,
    Values,
    in_blocks,
    nonzero,
    task_vectors,
    too_small,
    weighted_sum,
)
from evomerge.merge.methods.parameters import WEIGHT
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch


THRESHOLD = Parameter("threshold", 0.4, 0.1, 1.0, per_parent=True, doc="λ_i, a larger one gives task i a smaller mask")
K = Parameter("k", 2, 0, 2, integer=True, doc="how many tasks an entry must serve; 0: all entries are kept")


def consensus(
    merged: torch.Tensor, task_vectors: Sequence[torch.Tensor], *, threshold: Sequence[float], k: int
) -> torch.Tensor:
    """Return the entries of a merged task vector that serve at least k tasks, and 0 for the others.

    Args:
        merged: τ_M, the sum of the task vectors or another merge of them.
        task_vectors: τ_i, each of its shape.
        threshold: λ_i, one for each.
        k: how many masks must hold an entry; 0 keeps all, more than there are tasks none.

    Returns:
        A new tensor.
    """
    import torch

    count = torch.zeros(merged.shape, dtype=torch.int16, device=merged.device)
    for tau, limit in zip(task_vectors, threshold, strict=True):
        count += tau.abs() > (merged - tau).abs_().mul_(limit)
    return merged * (count >= k)  # on a CPU several times as fast as a masked fill


def _merge(inputs: Inputs, first: int) -> torch.Tensor:
    del first  # entries do not depend on their places
    taus = task_vectors(inputs)
    merged = weighted_sum(taus, inputs.numbers("weight"))
    kept = consensus(merged, taus, threshold=inputs.numbers("threshold"), k=int(inputs.number("k")))
    return kept.mul_(inputs.number("lambda")).add_(inputs.origin)


def _one_input(values: Values) -> int | None:
    active, k, scale = nonzero(values, "weight"), values["k"], cast(float, values["lambda"])
    if len(active) < cast(float, k) or not active or scale == 0.0:
        return BASE
    weight = cast("tuple[float, ...]", values["weight"])[active[0]]
    whole = k == 0 or weight == 1.0  # a task that is alone in τ_M serves itself wherever it is not 0
    return active[0] if len(active) == 1 and whole and weight * scale == 1.0 else None


METHOD = Method(
    spec=MethodSpec(
        name="consensus_ta",
        summary="base plus the entries of the summed task vector that serve several tasks",
        paper="https://arxiv.org/abs/2405.07813",
        topic="sparse task vectors",
        parameters=(
            WEIGHT,
            THRESHOLD,
            K,
            Parameter("lambda", 1.0, 0.1, 1.0, scope="global", doc="λ, scales what is kept (α in the paper)"),
        ),
        share=WEIGHT.name,
        formula="θ = θ0 + λ [Σ m_i ≥ k] ⊙ τ_M, τ_M = Σ w_i τ_i, m_i = [|τ_i| > λ_i |τ_M − τ_i|]",
        notes="An entry that a task left untouched does not serve it. k above the number of parents with a weight "
        "gives the base, so one parent needs k ≤ 1. A parent with weight 0 has no mask. With three or more parents the "
        "paper keeps k = 2; larger k are allowed. The authors choose λ_i for each task on validation items. "
        "mergekit has no such method. No fused kernel: a candidate takes several passes over the task vectors.",
    ),
    merge=lambda inputs: in_blocks(inputs, _merge),
    block=_merge,
    active=lambda values: nonzero(values, "weight"),
    one_input=_one_input,
    problems=lambda values: too_small(values, "threshold") + too_small(values, "k"),
)
