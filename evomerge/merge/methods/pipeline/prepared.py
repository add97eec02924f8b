"""What the slots need to know about the parents beside their entries.

`plainly` finds it from the task vectors of one tensor, the reference's way; `quickly` keeps what does not depend on a
genome in the parent cache: tables of quantiles, ranks within rows, dot products, counts. Both find the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from evomerge.merge.kernels.program import Band, BitRange, Cut
from evomerge.merge.methods.base import Inputs, ParentTensors
from evomerge.merge.methods.pipeline import aggregate, sparsify
from evomerge.merge.quantiles import Deltas, QuantileTable, cuts, make_table

if TYPE_CHECKING:
    import torch

SMALL = 1 << 14
"""Up to how many entries a tensor is simply sorted, which takes no longer than looking up its quantile."""

_ALL_BITS = BitRange(0, (1 << 31) - 1)
_FLOAT_BYTES, _COUNT_BYTES = 8, 16

_Sizes: TypeAlias = Callable[[int], "list[int]"]
"""From the number of entries that are ranked together to how many each parent keeps."""
_Ranks: TypeAlias = Callable[[int], "torch.Tensor"]


@dataclass(frozen=True)
class SlotFacts:
    """What was found for one tensor.

    Attributes:
        masks: one for each parent; empty: there are none, or they are found from all task vectors together.
        energy: ‖τ_i‖² of each whole task vector; empty: not needed.
        alone: the factor of each parent where it alone changes an entry; empty: not needed.
    """

    masks: tuple[sparsify.SlotMask, ...] = ()
    energy: tuple[float, ...] = ()
    alone: tuple[float, ...] = ()


def plainly(inputs: Inputs, task_vectors: Sequence[torch.Tensor]) -> SlotFacts:
    """Return what the slots need, from the task vectors themselves."""

    def tops(sizes: Sequence[_Sizes]) -> list[list[Cut]]:
        n = inputs.origin.numel()
        return [[sparsify.top(tau, k) for tau, k in zip(task_vectors, each(n), strict=True)] for each in sizes]

    masks = _masks(inputs, tops, lambda i: sparsify.row_ranks(task_vectors[i]))
    if needs_energy(inputs):
        return SlotFacts(masks, energy=tuple(aggregate.energy(tau) for tau in task_vectors))
    if needs_overlap(inputs):
        return SlotFacts(masks, alone=overlap_factors(inputs, task_vectors))
    return SlotFacts(masks)


def quickly(inputs: Inputs, tensors: ParentTensors) -> SlotFacts:
    """Return what the slots need, most of it from the parent cache."""
    masks = _masks(inputs, partial(_tops, inputs, tensors), partial(_ranks, inputs, tensors))
    if needs_energy(inputs):
        return SlotFacts(masks, energy=tuple(_energy(inputs, tensors, i) for i in range(len(inputs.parents))))
    if needs_overlap(inputs):
        tolerance, r, alpha = (inputs.number(name) for name in ("tolerance", "r", "alpha"))
        found = tensors.once(
            ("overlaps", tensors.name, tolerance),
            lambda: aggregate.overlaps([_delta(inputs, i).abs() > tolerance for i in range(len(inputs.parents))]),
            lambda counts: _COUNT_BYTES * len(counts),
            what="how many entries the parents change together",
        )
        return SlotFacts(masks, alone=aggregate.overlap_factors(found, r=r, alpha=alpha))
    return SlotFacts(masks)


def magnitude_cuts(inputs: Inputs, tensors: ParentTensors) -> list[Cut]:
    """Return the cuts that keep the share `density` of each parent's entries, ranked as `scope` says."""
    density = inputs.numbers("density")
    return _tops(inputs, tensors, [lambda q: [math.floor(d * q) for d in density]])[0]


def needs_energy(inputs: Inputs) -> bool:
    """Return whether the aggregate weighs whole task vectors by their energy."""
    return inputs.word("aggregate") == "sce" and inputs.word("sparsify") == "none"


def needs_overlap(inputs: Inputs) -> bool:
    """Return whether the aggregate counts the entries that several whole task vectors change."""
    return inputs.word("aggregate") == "ram" and inputs.word("sparsify") == "none" and inputs.number("r") != 0.0


def overlap_factors(inputs: Inputs, task_vectors: Sequence[torch.Tensor]) -> tuple[float, ...]:
    """Return RAM+'s factors, from the task vectors themselves."""
    tolerance, r, alpha = (inputs.number(name) for name in ("tolerance", "r", "alpha"))
    return aggregate.overlap_factors(
        aggregate.overlaps([tau.abs() > tolerance for tau in task_vectors]), r=r, alpha=alpha
    )


def _masks(
    inputs: Inputs, tops: Callable[[Sequence[_Sizes]], list[list[Cut]]], ranks: Callable[[int], torch.Tensor]
) -> tuple[sparsify.SlotMask, ...]:
    """Return the masks of a choice of sparsifier.

    Args:
        inputs: with the parameters of the pipeline.
        tops: returns, for each of several numbers of entries, the cuts that keep so many of the largest |τ|.
        ranks: returns the ranks within rows of a parent's task vector.
    """
    how = inputs.word("sparsify")
    if how == "none" and inputs.word("aggregate") == "ram":
        return (above(inputs.number("tolerance")),) * len(inputs.parents)
    if how in ("none", "variance"):
        return ()
    density, n = inputs.numbers("density"), sparsify.row_length(inputs.origin.shape)
    rescaled = inputs.word("rescale") == "inverse"
    if how == "random":
        pairs = zip(density, inputs.seeds, strict=True)
        return tuple(sparsify.random(density=d, seed=seed, rescaled=rescaled) for d, seed in pairs)
    if how == "magprune":
        rows = zip(density, inputs.numbers("epsilon"), inputs.seeds, strict=True)
        return tuple(
            sparsify.magprune(ranks(i), n, density=d, epsilon=e, seed=seed, rescaled=rescaled)
            for i, (d, e, seed) in enumerate(rows)
        )
    gamma = inputs.numbers("gamma") if how == "outliers" else (0.0,) * len(density)
    both = list(zip(density, gamma, strict=True))
    if inputs.word("scope") == "row":
        return tuple(sparsify.row_outliers(ranks(i), n, density=d, gamma=g) for i, (d, g) in enumerate(both))

    def removed(q: int) -> list[int]:
        return [sparsify.removed_and_kept(q, d, g)[0] for d, g in both]

    def down_to(q: int) -> list[int]:
        return [sum(sparsify.removed_and_kept(q, d, g)) for d, g in both]

    if not any(gamma):
        return tuple(tops([down_to])[0])
    without, kept = tops([removed, down_to])
    return tuple(Band(out, of) for out, of in zip(without, kept, strict=True))


def above(tolerance: float) -> Cut:
    """Return the mask of the entries with |τ| above a tolerance."""
    return Cut(float(np.float32(tolerance)), 0)


def _delta(inputs: Inputs, parent: int) -> torch.Tensor:
    return inputs.parents[parent].float() - inputs.origin.float()


def _energy(inputs: Inputs, tensors: ParentTensors, parent: int) -> float:
    return tensors.once(
        ("energy", tensors.name),
        lambda: aggregate.energy(_delta(inputs, parent)),
        lambda found: _FLOAT_BYTES,
        what="the norms of the parents' task vectors",
        of=[parent],
    )


def _ranks(inputs: Inputs, tensors: ParentTensors, parent: int) -> torch.Tensor:
    return tensors.once(
        ("row ranks", tensors.name),
        lambda: sparsify.row_ranks(_delta(inputs, parent)),
        lambda found: max(1, found.numel() * found.element_size()),
        what="the ranks of the parents' task vectors within rows",
        of=[parent],
    )


def _tops(inputs: Inputs, tensors: ParentTensors, sizes: Sequence[_Sizes]) -> list[list[Cut]]:
    """Return the cuts from tables of quantiles that are made once, so that no density needs a sort."""
    base, n_parents = inputs.origin, len(inputs.parents)
    if inputs.word("scope") == "model":
        return _model_tops(tensors, sizes, n_parents)[tensors.name]
    n = base.numel()
    if n <= SMALL:
        listed = tensors.engine.survey(base, inputs.parents, [_ALL_BITS] * n_parents)
        magnitudes = [each.bits.view(np.float32) for each in listed]
        return [[sparsify.top_of(*pair) for pair in zip(magnitudes, each(n), strict=True)] for each in sizes]
    tables = [
        _table(tensors, i, tensors.name, [Deltas(n, lambda: (base, inputs.parents))], which=i) for i in range(n_parents)
    ]
    deltas = [Deltas(n, lambda: (base, [*inputs.parents] * len(sizes)))]
    found = cuts(tensors.engine, deltas, tables * len(sizes), [k for each in sizes for k in each(n)])
    return _by_size([cut for (cut,) in found], n_parents)


def _by_size(found: Sequence[Cut], n_parents: int) -> list[list[Cut]]:
    return [list(found[at : at + n_parents]) for at in range(0, len(found), n_parents)]


def _model_tops(tensors: ParentTensors, sizes: Sequence[_Sizes], n_parents: int) -> dict[str, list[list[Cut]]]:
    """Return, for each tensor, the cuts that keep the top of all entries of each parent's task vector.

    Of equal entries the first are kept, in the order of the tensors. At most one tensor of each parent is held at once.
    """
    at_most = tensors.lately(  # every tensor of a candidate asks
        "numbers of entries", lambda: {name: math.prod(at.shape) for name, at in tensors.tensors().items()}
    )
    ks = [k for each in sizes for k in each(sum(at_most.values()))]

    def find() -> dict[str, list[list[Cut]]]:
        def deltas(which: Sequence[int]) -> list[Deltas]:
            return [Deltas(n, partial(_load, tensors, name, which)) for name, n in at_most.items()]

        tables = [_table(tensors, i, None, deltas([i])) for i in range(n_parents)]
        everything = deltas([*range(n_parents)] * len(sizes))
        found = cuts(tensors.engine, everything, tables * len(sizes), ks)
        return {name: _by_size(row, n_parents) for name, row in zip(at_most, zip(*found, strict=True), strict=True)}

    return tensors.lately(("cuts", *ks), find)


def _load(tensors: ParentTensors, name: str, which: Sequence[int]) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
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
