"""ComPEFT: a task vector as signs and one number, τ̃ = α·std(τ)·sign(τ) on its largest entries.
https://arxiv.org/abs/2311.13171.

Kept are the top ⌊density·q⌋ of its q entries by |τ|; std is that of all q entries (divided by q − 1). Two bits an entry
and one number store such a vector. The result is θ0 + Σ w_i τ̃_i.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evomerge.merge.kernels.program import Cut
from evomerge.merge.methods.base import (
    BASE,
    Inputs,
    Method,
    ParentTensors,
    in_blocks,
    nonzero,
    out_of_range,
    task_vectors,
    too_small,
)
from evomerge.merge.methods.parameters import WEIGHT
from evomerge.merge.methods.pipeline.prepared import magnitude_cuts
from evomerge.merge.methods.pipeline.sparsify import is_kept, magnitude
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

    from evomerge.merge.kernels.engine import KernelEngine


_PIECE = 1 << 20
"""Entries of a task vector that are in memory at once while its deviation is found."""


@dataclass(frozen=True)
class Moments:
    """Number, sum and sum of squares of the entries of a task vector, in float64."""

    n: int
    total: float
    squares: float

    @property
    def std(self) -> float:
        """The standard deviation, divided by n − 1; 0 for one entry alone."""
        if self.n < 2:
            return 0.0
        return math.sqrt(max(0.0, self.squares - self.total * self.total / self.n) / (self.n - 1))


def moments(engine: KernelEngine, theta: torch.Tensor, base: torch.Tensor | None = None) -> Moments:
    """Return the moments of the entries of θ − θ0 in fp32 (without a base: of θ), found piece by piece."""
    import torch

    pieces = theta.reshape(-1).split(_PIECE)
    origins = itertools.repeat(None) if base is None else base.reshape(-1).split(_PIECE)
    ones = torch.ones(min(_PIECE, theta.numel()), device=theta.device)
    total = squares = 0.0
    for piece, origin in zip(pieces, origins, strict=False):
        tau = piece.float() if origin is None else piece.float() - origin.float()
        more, added, _ = engine.dots(tau.contiguous(), ones[: tau.numel()])
        squares, total = squares + more, total + added
    return Moments(theta.numel(), total, squares)


def compress(task_vector: torch.Tensor, *, cut: Cut, level: float) -> torch.Tensor:
    """Return level·sign(τ) where a cut keeps the entry and 0 elsewhere, as a new tensor."""
    kept = is_kept(task_vector.view(-1), cut).view(task_vector.shape)
    return task_vector.sign().mul_(kept).mul_(level)  # on a CPU several times as fast as a masked fill


def _merge(inputs: Inputs) -> torch.Tensor:
    found = inputs.prepared or _of_tensor(
        [parent.float() - inputs.origin.float() for parent in inputs.parents], inputs.numbers("density")
    )
    return in_blocks(replace(inputs, prepared=found), _block)


def _block(part: Inputs, first: int) -> torch.Tensor:
    cuts, stds = part.prepared
    levels = [w * part.number("alpha") * std for w, std in zip(part.numbers("weight"), stds, strict=True)]
    out = part.origin.clone()
    for tau, cut, level in zip(task_vectors(part), cuts, levels, strict=True):
        out += compress(tau, cut=Cut(cut.threshold, max(0, cut.limit - first)), level=level)
    return out


def _of_tensor(taus: Sequence[torch.Tensor], densities: Sequence[float]) -> tuple[list[Cut], list[float]]:
    from evomerge.merge.kernels.torch_engine import TorchEngine

    engine = TorchEngine()
    cuts = [magnitude(tau, density) for tau, density in zip(taus, densities, strict=True)]
    return cuts, [moments(engine, tau).std for tau in taus]


def _prepare(inputs: Inputs, tensors: ParentTensors) -> tuple[list[Cut], list[float]]:
    """Return each parent's cut, found as for TIES, and its standard deviation, which is found once per search."""
    whole = inputs.values["scope"] == "model"
    return (
        magnitude_cuts(inputs, tensors),
        [_std(inputs, tensors, i, None if whole else tensors.name) for i in range(len(inputs.parents))],
    )


def _std(inputs: Inputs, tensors: ParentTensors, parent: int, name: str | None) -> float:
    def find() -> float:
        if name is not None:
            return moments(tensors.engine, inputs.parents[parent], inputs.origin).std
        found = []
        for each in tensors.tensors():
            base, (theta,) = tensors.load(each, [parent])
            assert base is not None  # the method needs one
            found.append(moments(tensors.engine, theta, base))
        return Moments(
            sum(one.n for one in found), sum(one.total for one in found), sum(one.squares for one in found)
        ).std

    return tensors.once(
        ("standard deviation", name),
        find,
        lambda std: 8,
        what="the standard deviations of the parents' task vectors",
        of=[parent],
    )


METHOD = Method(
    spec=MethodSpec(
        name="compeft",
        summary="base plus the weighted sum of task vectors that were compressed to signs and one number",
        paper="https://arxiv.org/abs/2311.13171",
        topic="sparse task vectors",
        parameters=(
            WEIGHT,
            Parameter("density", 0.2, 0.05, 0.5, per_parent=True, doc="share of entries kept, the largest |τ|"),
            Parameter("alpha", 1.0, 0.5, 10.0, log=True, scope="global", doc="α, scales the standard deviation"),
            Parameter(
                "scope",
                "tensor",
                choices=("tensor", "model"),
                gene=False,
                in_groups=False,
                doc="rank |τ| and take its standard deviation within each tensor, or over the whole model (the paper)",
            ),
        ),
        share=WEIGHT.name,
        formula="θ = θ0 + Σ w_i τ̃_i, τ̃_i = α std(τ_i) sign(τ_i) on the top ⌊density·q⌋ of q entries, 0 elsewhere",
        notes="Of equal entries the first are kept. One entry alone and equal entries have no deviation and give 0. "
        "The smaller the density, the larger the α that keeps a model's skill (0.5 to 10 in the paper, chosen on "
        "validation items). One parent is not reproduced: that is what compression costs. mergekit has no such "
        "method. Deviations and quantiles are found once per search; no fused kernel, so a candidate takes several "
        "passes.",
    ),
    merge=_merge,
    block=_block,
    prepare=_prepare,
    active=lambda values: nonzero(values, "weight", "density"),
    one_input=lambda values: BASE if not nonzero(values, "weight", "density") or values["alpha"] == 0.0 else None,
    problems=lambda values: out_of_range(values, "density", 0.0, 1.0) + too_small(values, "alpha"),
)
