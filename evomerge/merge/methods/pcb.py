"""PCB-Merging: entries compete within their task vector and with the other parents'. https://arxiv.org/abs/2410.02396.

For task vectors τ_i of N parents, each a row of q entries:

    A_i = |τ_i|, raised and lowered to its f and 1 − f quantiles;  T_i = sign(τ_i) A_i
    β_i = exp(N · N(A_i)²) · tanh(τ_i ⊙ Σ_j τ_j),  N(·) a row brought to [0, 1] by its least and largest entry
    s_i = N(max(β_i, the (1 − ρ) quantile of β_i))
    Δ = Σ λ_i T_i s_i / max(Σ s_i, 1e-12),  θ = θ0 + Δ

as in the authors' code; the paper writes softmax for exp and tanh. A row of equal entries is 0 after N(·), where their
code divides 0 by 0. A row is one tensor, or the whole model (theirs). Quantiles are entries of the sorted row, as
theirs: number ⌊qf⌋, ⌊q(1 − f)⌋ − 1 and ⌊q(1 − ρ)⌋ from 0, so that q − ⌊q(1 − ρ)⌋ − 1 entries survive.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from evomerge.merge.methods.base import (
    BASE,
    Inputs,
    Method,
    ParentTensors,
    nonzero,
    out_of_range,
    task_vectors,
)
from evomerge.merge.methods.ranks import RankSearch, Spread
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

Bounds: TypeAlias = tuple[float, float]
"""Of one row: the f and the 1 − f quantile of |τ|; or of β, the (1 − ρ) quantile and the largest entry."""

SMALLEST_SUM = 1e-12


def clip_ranks(q: int, clip: float) -> tuple[int, int]:
    """Return the ranks, from 0, of the least and the largest magnitude that are kept as they are."""
    low = math.floor(q * clip)
    return low, max(low, math.floor(q * (1.0 - clip)) - 1)


def drop_rank(q: int, density: float) -> int:
    """Return the rank, from 0, of the largest β that is dropped."""
    return min(math.floor(q * (1.0 - density)), q - 1)


def balances(taus: Sequence[torch.Tensor], bounds: Sequence[Bounds]) -> Iterator[torch.Tensor]:
    """Yield β_i of each parent, times exp(−N), which cancels in s_i and keeps many parents from overflowing."""
    import torch

    total = torch.zeros_like(taus[0])
    for tau in taus:
        total += tau
    n = len(taus)
    for tau, (low, high) in zip(taus, bounds, strict=True):
        intra = (
            tau.abs().clamp_(low, high).sub_(low).div_(high - low).square_() if high > low else torch.zeros_like(tau)
        )
        yield intra.sub_(1.0).mul_(n).exp_().mul_((tau * total).tanh_())


def compete(
    taus: Sequence[torch.Tensor], *, weight: Sequence[float], bounds: Sequence[Bounds], drops: Sequence[Bounds]
) -> torch.Tensor:
    """Return Δ.

    Args:
        taus: τ_i, all of one shape.
        weight: λ_i.
        bounds: of each parent, the quantiles of |τ_i| to which its entries are clamped.
        drops: of each parent, the (1 − ρ) quantile and the largest entry of what `balances` gives.
    """
    import torch

    total, divisor = torch.zeros_like(taus[0]), torch.zeros_like(taus[0])
    for tau, beta, w, (low, high), (least, most) in zip(
        taus, balances(taus, bounds), weight, bounds, drops, strict=True
    ):
        if most <= least:
            continue  # all entries are alike, so none wins
        share = beta.clamp_(min=least).sub_(least).div_(most - least)
        total += tau.abs().clamp_(low, high).mul_(tau.sign()).mul_(share).mul_(w)
        divisor += share
    return total.div_(divisor.clamp_(min=SMALLEST_SUM))


def _merge(inputs: Inputs) -> torch.Tensor:
    taus = task_vectors(inputs)
    density, clip = inputs.number("density"), inputs.number("clip")
    bounds, drops = inputs.prepared or ([_bounds(tau, clip) for tau in taus], None)
    if drops is None:
        drops = [_drops(beta, density) for beta in balances(taus, bounds)]
    merged = compete(taus, weight=inputs.numbers("weight"), bounds=bounds, drops=drops)
    return merged.add_(inputs.origin)


def _sorted_at(entries: torch.Tensor, ranks: Sequence[int]) -> list[float]:
    import torch

    flat = entries.reshape(-1)
    if flat.device.type == "cpu":
        parted = np.partition(flat.numpy(), ranks)  # several times as fast as torch's selection, and as exact
        return [float(parted[rank]) for rank in ranks]
    return [float(torch.kthvalue(flat, rank + 1).values) for rank in ranks]


def _bounds(tau: torch.Tensor, clip: float) -> Bounds:
    low, high = _sorted_at(tau.abs(), clip_ranks(tau.numel(), clip))
    return low, high


def _drops(beta: torch.Tensor, density: float) -> Bounds:
    return _sorted_at(beta, [drop_rank(beta.numel(), density)])[0], float(beta.max())


def _prepare(inputs: Inputs, tensors: ParentTensors) -> tuple[list[Bounds], list[Bounds] | None]:
    """Return the bounds of |τ_i|, found once per search, and in one ranking of the whole model those of β_i."""
    clip = inputs.number("clip")
    if inputs.values["scope"] == "model":
        bounds, spreads = tensors.once(
            ("pcb", clip),
            lambda: _spread_model(tensors, clip),
            lambda found: sum(each.n_bytes for each in found[1]),
            what="the ranks of the parents' task vectors",
        )
        density = inputs.number("density")
        drops = tensors.lately(("pcb", clip, density), lambda: _model_drops(tensors, bounds, spreads, density))
        return bounds, drops

    def of_parent(i: int) -> Bounds:
        return tensors.once(
            ("pcb", tensors.name, clip),
            lambda: _bounds(inputs.parents[i].float() - inputs.origin.float(), clip),
            lambda found: 16,
            what="the quantiles of the parents' task vectors",
            of=[i],
        )

    return [of_parent(i) for i in range(len(inputs.parents))], None


def _spread_model(tensors: ParentTensors, clip: float) -> tuple[list[Bounds], list[Spread]]:
    """Return the bounds of each parent's |τ| over the whole model, and how its β are spread."""
    n = len(next(_rows(tensors)))
    spreads = [Spread() for _ in range(n)]
    for taus in _rows(tensors):
        for spread, tau in zip(spreads, taus, strict=True):
            spread.add(tau.abs())
    searches = [RankSearch(spread, clip_ranks(spread.n, clip)) for spread in spreads]
    for taus in _rows(tensors):
        for search, tau in zip(searches, taus, strict=True):
            search.add(tau.abs())
    bounds = [(low, high) for low, high in (search.found() for search in searches)]
    spreads = [Spread() for _ in range(n)]
    for taus in _rows(tensors):
        for spread, beta in zip(spreads, balances(taus, bounds), strict=True):
            spread.add(beta)
    return bounds, spreads


def _model_drops(
    tensors: ParentTensors, bounds: Sequence[Bounds], spreads: Sequence[Spread], density: float
) -> list[Bounds]:
    searches = [RankSearch(spread, [drop_rank(spread.n, density)]) for spread in spreads]
    for taus in _rows(tensors):
        for search, beta in zip(searches, balances(taus, bounds), strict=True):
            search.add(beta)
    return [(search.found()[0], spread.most) for search, spread in zip(searches, spreads, strict=True)]


def _rows(tensors: ParentTensors) -> Iterator[list[torch.Tensor]]:
    """Yield the task vectors of all parents, a tensor at a time."""
    for name in tensors.tensors():
        base, parents = tensors.load(name)
        assert base is not None  # the method needs one
        origin = base.float()
        yield [parent.float() - origin for parent in parents]


METHOD = Method(
    spec=MethodSpec(
        name="pcb",
        summary="base plus the mean of task vectors, weighted by how each entry stands in the competition",
        paper="https://arxiv.org/abs/2410.02396",
        topic="sparse task vectors",
        parameters=(
            Parameter("weight", 1.2, 0.8, 1.3, per_parent=True, doc="λ_i, scales each parent's task vector"),
            Parameter("density", 0.1, 0.01, 0.5, log=True, doc="ρ, share of entries that stay in the competition"),
            Parameter(
                "clip",
                1e-4,
                0.0,
                0.01,
                gene=False,
                doc="f, share of the least and of the largest |τ| that are raised and lowered to the next ones",
            ),
            Parameter(
                "scope",
                "tensor",
                choices=("tensor", "model"),
                gene=False,
                in_groups=False,
                doc="entries compete within each tensor, or over the whole model (the authors' code)",
            ),
        ),
        formula="θ = θ0 + Σ λ_i T_i s_i / Σ s_i, T_i = sign(τ_i) clamp(|τ_i|), "
        "s_i from β_i = exp(N·N(|τ_i|)²) tanh(τ_i Σ τ_j)",
        notes="β below its (1 − ρ) quantile gets s = 0; where no parent has a share, the entry stays the base's. A "
        "task vector of equal magnitudes or zeros does not become NaN, as it does in the authors' code. Exactly "
        "q − ⌊q(1 − ρ)⌋ − 1 of q entries survive, so tensors of a few entries may stay the base's. A parent with "
        "weight 0 does not compete. The authors use f = 0.0001 or 0.01. mergekit has no such method. No fused "
        "kernel; a candidate sorts each task vector once (`scope: model`: reads the models once more).",
    ),
    merge=_merge,
    prepare=_prepare,
    active=lambda values: nonzero(values, "weight"),
    one_input=lambda values: BASE if not nonzero(values, "weight") else None,
    problems=lambda values: [*out_of_range(values, "density", 0.0, 1.0), *out_of_range(values, "clip", 0.0, 0.5)],
)
