"""TIES: trim, elect sign, disjoint mean. https://arxiv.org/abs/2306.01708.

Differences from the authors' code: exactly k = ⌊density·q⌋ of q entries are kept (theirs keeps k + 1), an entry whose
weighted sum is exactly 0 elects + (theirs elects the majority sign of the model), and the weights w_i are ours. They
trim a whole model's task vector at once (`scope: model` here); the default is per tensor, which needs no earlier pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from evomerge.merge.kernels.program import BitRange, Cut, Drop, Program
from evomerge.merge.methods.base import (
    BASE,
    ELECTION,
    MEAN_LAMBDA,
    NORMALIZE_MEAN,
    WEIGHT,
    Inputs,
    Method,
    ParentTensors,
    Values,
    nonzero,
    out_of_range,
    task_vectors,
)
from evomerge.merge.quantiles import Deltas, QuantileTable, cuts, make_table
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

SMALL = 1 << 14
"""Up to how many entries a tensor is simply sorted, which takes no longer than looking up its quantile."""

_ALL_BITS = BitRange(0, (1 << 31) - 1)


FEW = 1 << 14
"""How many entries can be copied from a GPU in less time than it takes to start the kernels of a selection."""


def cut_of(task_vector: torch.Tensor, density: float) -> Cut:
    """Return the cut that keeps exactly ⌊density·q⌋ of the q entries, ties broken by the lowest flat index."""
    magnitude = task_vector.reshape(-1).abs()
    if magnitude.device.type == "cpu" or magnitude.numel() <= FEW:
        # numpy is 4 to 7 times as fast as torch's selection, and as exact
        return _cut_of_magnitudes(magnitude.cpu().numpy(), density)
    import torch

    k = math.floor(density * magnitude.numel())
    if k <= 0:
        return Cut(math.inf, 0)
    threshold = torch.kthvalue(magnitude, magnitude.numel() - k + 1).values.item()
    n_equal = k - int((magnitude > threshold).sum())
    return Cut(threshold, int((magnitude == threshold).nonzero()[n_equal - 1, 0]) + 1)


def _cut_of_magnitudes(magnitude: np.ndarray, density: float) -> Cut:
    k = math.floor(density * magnitude.size)
    if k <= 0:
        return Cut(math.inf, 0)
    threshold = np.partition(magnitude, magnitude.size - k)[magnitude.size - k]
    n_equal = k - int((magnitude > threshold).sum())
    return Cut(float(threshold), int((magnitude == threshold).nonzero()[0][n_equal - 1]) + 1)


def trim(task_vector: torch.Tensor, cut: Cut) -> torch.Tensor:
    """Set to 0, in place, what the cut does not keep."""
    flat = task_vector.view(-1)
    magnitude = flat.abs()
    keep = magnitude > cut.threshold
    keep[: cut.limit] |= magnitude[: cut.limit] == cut.threshold
    flat.masked_fill_(~keep, 0.0)
    return task_vector


def disjoint_merge(
    base: torch.Tensor,
    trimmed: Sequence[torch.Tensor],
    *,
    weight: Sequence[float],
    scale: float,
    election: str,
    normalize: bool,
) -> torch.Tensor:
    """Return θ0 + λΔ, where Δ is, for each entry, the weighted mean (or sum) of the τ̂_i with the elected sign γ.

    Args:
        base: θ0.
        trimmed: τ̂_i, each of the base's shape.
        weight: w_i > 0.
        scale: λ.
        election: "sum": γ = sign Σ w_i τ̂_i; "count": γ = sign Σ sign τ̂_i. A draw elects +.
        normalize: whether to divide by the weights of the parents that agree.
    """
    import torch

    votes = torch.zeros_like(base)
    for w, tau in zip(weight, trimmed, strict=True):
        if election == "count":
            votes += tau.sign()
        else:
            votes += tau * w
    positive = votes >= 0
    total, divisor = votes.zero_(), torch.zeros_like(base)
    for w, tau in zip(weight, trimmed, strict=True):
        agrees = (tau != 0) & ((tau > 0) == positive)
        total += torch.where(agrees, tau * w, 0.0)
        divisor += agrees * w
    if normalize:
        total.div_(divisor.masked_fill_(divisor == 0, 1.0))  # where no parent agrees, the total is 0
    return total.mul_(scale).add_(base)


def disjoint_problems(values: Values) -> list[str]:
    """Return a sentence for each density outside of [0, 1] and each negative weight; these could cancel the divisor."""
    negative = [w for w in cast("tuple[float, ...]", values["weight"]) if w < 0]
    refused = [f"weight must not be negative with this method (its mean divides by their sum), but came {w:g}"
               for w in negative]  # fmt: skip
    return refused + out_of_range(values, "density", 0.0, 1.0)


def disjoint_one_input(values: Values) -> int | None:
    """Return the input that the result equals: the base without task vectors, or a parent kept whole with λ = 1."""
    active = nonzero(values, "weight", "density")
    if not active or values["lambda"] == 0.0:
        return BASE
    weight, density = (cast("tuple[float, ...]", values[name])[active[0]] for name in ("weight", "density"))
    scale = cast(float, values["lambda"]) * (1.0 if values["normalize"] else weight)
    return active[0] if len(active) == 1 and density == 1.0 and scale == 1.0 else None


def _ties(inputs: Inputs) -> torch.Tensor:
    task = task_vectors(inputs)
    densities = inputs.numbers("density")
    kept = inputs.prepared or [cut_of(tau, density) for tau, density in zip(task, densities, strict=True)]
    return disjoint_merge(
        inputs.origin,
        [trim(tau, cut) for tau, cut in zip(task, kept, strict=True)],
        weight=inputs.numbers("weight"),
        scale=inputs.number("lambda"),
        election=inputs.word("election"),
        normalize=bool(inputs.values["normalize"]),
    )


def _program(inputs: Inputs) -> Program:
    return disjoint_program(inputs, tuple(inputs.prepared))


def _prepare(inputs: Inputs, tensors: ParentTensors) -> list[Cut]:
    """Return a cut for each parent, from a table of quantiles that is made once, so that no density needs a sort."""
    base, densities = inputs.origin, inputs.numbers("density")
    if inputs.values.get("scope") == "model":
        return _model_cuts(tensors, densities)[tensors.name]
    if base.numel() <= SMALL:
        listed = tensors.engine.survey(base, inputs.parents, [_ALL_BITS] * len(densities))
        magnitudes = [each.bits.view(np.float32) for each in listed]
        return [_cut_of_magnitudes(each, density) for each, density in zip(magnitudes, densities, strict=True)]
    deltas = [Deltas(base.numel(), lambda: (base, inputs.parents))]
    tables = [_table(tensors, i, tensors.name, deltas, which=i) for i in range(len(densities))]
    found = cuts(tensors.engine, deltas, tables, [math.floor(density * base.numel()) for density in densities])
    return [cut for (cut,) in found]


def _model_cuts(tensors: ParentTensors, densities: Sequence[float]) -> dict[str, list[Cut]]:
    """Return, for each tensor, the cuts that keep the top ⌊density·q⌋ of all q entries of each parent's task vector.

    Of equal entries the first are kept, in the order of the tensors. At most one tensor of each parent is held at once.
    """

    def find() -> dict[str, list[Cut]]:
        sizes = {name: math.prod(at.shape) for name, at in tensors.tensors().items()}

        def deltas(which: Sequence[int] | None = None) -> list[Deltas]:
            return [Deltas(n, partial(_load, tensors, name, which)) for name, n in sizes.items()]

        tables = [_table(tensors, i, None, deltas([i])) for i in range(len(densities))]
        ks = [math.floor(density * table.n) for density, table in zip(densities, tables, strict=True)]
        found = cuts(tensors.engine, deltas(), tables, ks)
        return {name: list(row) for name, row in zip(sizes, zip(*found, strict=True), strict=True)}

    return tensors.lately(("cuts", tuple(densities)), find)


def _load(
    tensors: ParentTensors, name: str, which: Sequence[int] | None
) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    base, parents = tensors.load(name, which)
    assert base is not None  # the method needs one
    return base, parents


def _table(
    tensors: ParentTensors, parent: int, name: str | None, deltas: Sequence[Deltas], which: int = 0
) -> QuantileTable:
    """Return the quantile table of one parent's tensor (`name` None: of all its tensors as one)."""
    return tensors.once(
        ("quantiles", name),
        lambda: make_table(tensors.engine, deltas, which),
        lambda table: table.n_bytes,
        what="the quantile tables of the parents' task vectors",
        of=[parent],
    )


def disjoint_program(inputs: Inputs, masks: tuple[Cut | Drop, ...]) -> Program:
    """Return the election and disjoint mean of masked task vectors as a program."""
    return Program(
        weight=inputs.numbers("weight"),
        scale=inputs.number("lambda"),
        masks=masks,
        disjoint=True,
        by_count=inputs.word("election") == "count",
        normalize=bool(inputs.values["normalize"]),
    )


METHOD = Method(
    spec=MethodSpec(
        name="ties",
        summary="trim task vectors, elect a sign per entry, average those that agree",
        paper="https://arxiv.org/abs/2306.01708",
        topic="sparse task vectors",
        parameters=(
            WEIGHT,
            Parameter("density", 0.2, 0.05, 1.0, per_parent=True, doc="share of entries kept, the largest |τ|"),
            MEAN_LAMBDA,
            ELECTION,
            NORMALIZE_MEAN,
            Parameter(
                "scope",
                "tensor",
                choices=("tensor", "model"),
                gene=False,
                doc="rank |τ| within each tensor, or over the whole model (the paper)",
            ),
        ),
        share=WEIGHT.name,
    ),
    merge=_ties,
    program=_program,
    prepare=_prepare,
    prepare_without_torch=True,
    active=lambda values: nonzero(values, "weight", "density"),
    one_input=disjoint_one_input,
    problems=disjoint_problems,
)
