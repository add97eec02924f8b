"""A merge method from a choice of slots: the reference, the program for the fused kernels, and what they prepare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.base import BASE, Inputs, Method, Values, nonzero, out_of_range, task_vectors
from evomerge.merge.methods.linear import SMALLEST_SUM, shares
from evomerge.merge.methods.pipeline import aggregate, post, sparsify
from evomerge.merge.methods.pipeline.consensus import agreeing
from evomerge.merge.methods.pipeline.prepared import SlotFacts, above, overlap_factors, plainly, quickly
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.recipe.method import MethodSpec

if TYPE_CHECKING:
    import torch

Reading: TypeAlias = Callable[[Values], Values]
"""From the parameters of a method to the slots of the pipeline and their parameters."""

SLOTS: Mapping[str, Any] = {
    "sparsify": "none",
    "consensus": "none",
    "aggregate": "sum",
    "scope": "tensor",
    "rescale": "none",
    "r": 0.0,
    "post": "none",
    "lambda": 1.0,
}
"""What holds where a reading says nothing."""


def build(
    spec: MethodSpec,
    read: Reading,
    *,
    without_torch: bool = False,
    values_at: Callable[[Values, TensorAt], Values] | None = None,
) -> Method:
    """Return the method of a choice of slots.

    Args:
        spec: its parameters; a weight per parent is among them.
        read: says which slots these parameters mean. The names of the pipeline's parameters are those of the method
            `pipeline`.
        without_torch: whether its preparation reads tensors through the engine alone.
        values_at: as that of a `Method`.
    """

    def slots(values: Values) -> Values:
        return {**SLOTS, **read(values)}

    def with_slots(inputs: Inputs) -> Inputs:
        return replace(inputs, values=slots(inputs.values))

    return Method(
        spec=spec,
        merge=lambda inputs: _merge(with_slots(inputs)),
        program=lambda inputs: _program(with_slots(inputs)),
        prepare=lambda inputs, tensors: quickly(with_slots(inputs), tensors),
        prepare_without_torch=without_torch,
        active=lambda values: _active(slots(values)),
        one_input=lambda values: _one_input(slots(values)),
        problems=lambda values: _problems(values, slots(values)),
        values_at=values_at,
    )


def _merge(inputs: Inputs) -> torch.Tensor:
    """Return the result, slot after slot, in plain torch."""
    task = task_vectors(inputs)
    prepared = inputs.prepared or plainly(inputs, task)
    weight, consensus, how = inputs.numbers("weight"), inputs.word("consensus"), inputs.word("aggregate")
    sparse = _sparse(inputs, task, prepared.masks)
    counts = None if consensus == "none" else agreeing(sparse, weight=weight, consensus=consensus)
    if how not in aggregate.DISJOINT:
        weight = shares(weight, normalize=how == "mean")
        return _added(inputs, aggregate.summed(sparse, weight, counts))
    alone = prepared.alone
    if how == "sce":
        energy = prepared.energy or [aggregate.energy(tau) for tau in sparse]
        weight = aggregate.energy_weights(weight, energy)
    elif how == "ram" and inputs.number("r") != 0.0 and not alone:
        alone = overlap_factors(inputs, sparse)
    return _added(inputs, aggregate.disjoint_mean(sparse, weight, counts, alone))


def _added(inputs: Inputs, merged: torch.Tensor) -> torch.Tensor:
    return post.added(inputs.origin, post.after(inputs, merged), inputs.number("lambda"))


def _sparse(inputs: Inputs, task: list[torch.Tensor], masks: Sequence[Any]) -> list[torch.Tensor]:
    """Return the sparse task vectors τ̂_i, in the memory of the τ_i."""
    if inputs.word("sparsify") == "variance":
        selected = sparsify.most_varied(task, density=inputs.number("select_topk"))
        if selected is not None:
            for tau in task:
                tau.view(-1).masked_fill_(~selected, 0.0)
        return task
    if not masks:
        return task
    matched = inputs.word("rescale") == "l1"
    norms = [sparsify.l1_norm(tau) for tau in task] if matched else []
    sparse = [sparsify.keep(tau, mask) for tau, mask in zip(task, masks, strict=True)]
    if matched:
        sparse = [sparsify.match_l1(tau, norm) for tau, norm in zip(sparse, norms, strict=True)]
    if inputs.word("aggregate") == "ram" and inputs.word("sparsify") != "none":
        return [sparsify.keep(tau, above(inputs.number("tolerance"))) for tau in sparse]
    return sparse


def _program(inputs: Inputs) -> Program | None:
    """Return the same as a program; None where that needs the sparse task vectors of a whole tensor."""
    how, consensus, plain = inputs.word("aggregate"), inputs.word("consensus"), inputs.word("sparsify") == "none"
    if inputs.word("sparsify") == "variance" and inputs.number("select_topk") < 1.0:
        return None
    if (inputs.word("rescale") == "l1" and not plain) or (how in ("sce", "ram") and not plain):
        return None
    if (how == "ram" and consensus != "none") or inputs.word("post") != "none":
        return None
    weight, prepared = inputs.numbers("weight"), inputs.prepared or SlotFacts()
    scale, masks = inputs.number("lambda"), prepared.masks
    votes: tuple[float, ...] = ()
    if how == "mean":
        weight, votes = shares(weight, normalize=True), weight
    elif how == "sce":
        weight, votes = aggregate.energy_weights(weight, prepared.energy), weight
    if consensus == "none" and how not in aggregate.DISJOINT:
        return Program(weight, scale, masks)
    return Program(
        weight,
        scale,
        masks,
        disjoint=True,
        by_count=consensus == "count",
        normalize=how in aggregate.DISJOINT,
        votes=votes if consensus == "sum" else (),
        elect=consensus != "none",
        alone=prepared.alone,
    )


def _active(values: Values) -> tuple[int, ...]:
    # With density 0 nothing is left of a task vector; in a mean over all weights, its weight still counts.
    dense = values["sparsify"] in ("none", "variance") or values["aggregate"] == "mean"
    return nonzero(values, "weight") if dense else nonzero(values, "weight", "density")


def _one_input(values: Values) -> int | None:
    active = _active(values)
    weight = cast("tuple[float, ...]", values["weight"])
    vanishes = values["aggregate"] == "mean" and abs(sum(weight)) < SMALLEST_SUM
    if not active or values["lambda"] == 0.0 or vanishes:
        return BASE
    only = active[0]
    scale = cast(float, values["lambda"]) * (weight[only] if values["aggregate"] == "sum" else 1.0)
    whole = values["post"] == "none" and _whole(values, only)
    return only if len(active) == 1 and scale == 1.0 and whole else None


def _whole(values: Values, parent: int) -> bool:
    """Return whether the task vector of the only parent goes through the slots as it is."""
    if values["aggregate"] == "ram" and values["tolerance"] != 0.0:
        return False
    if values["sparsify"] in ("none", "variance"):
        return True
    dense = cast("tuple[float, ...]", values["density"])[parent] == 1.0
    return dense and (values["sparsify"] != "outliers" or cast("tuple[float, ...]", values["gamma"])[parent] == 0.0)


def _problems(values: Values, slots: Values) -> list[str]:
    """Return what is wrong with the parameters of a method that mean these slots."""
    refused = []
    if slots["consensus"] != "none" or slots["aggregate"] in aggregate.DISJOINT:
        refused = [f"weight must not be negative with this method (its mean divides by their sum), but came {w:g}"
                   for w in cast("tuple[float, ...]", values["weight"]) if w < 0]  # fmt: skip
    names = ("density", "gamma", "epsilon", "select_topk", "tolerance", "threshold", "beta", "rank")
    return refused + [text for name in names if name in values for text in out_of_range(values, name, 0.0, 1.0)]
