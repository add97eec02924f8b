"""Git Re-Basin: parents of different initialisation are averaged after their units were put in one order.
https://arxiv.org/abs/2209.04836, by matching weights.

θ = Σ w_i π_i(θ_i) / Σ w_i, where π_i changes the order of hidden units and of attention heads, so that the model
computes the same, and its weights come as near to the first parent's as they can (`evomerge.merge.methods.matching`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from evomerge.errors import RecipeError
from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.base import Inputs, Method, ParentTensors, first_and_weighted
from evomerge.merge.methods.linear import METHOD as LINEAR
from evomerge.merge.methods.linear import linear, shares
from evomerge.merge.methods.matching import Matching, Orders, reorder
from evomerge.merge.methods.parameters import SHARE
from evomerge.merge.methods.units import RESIDUAL, Axis, Units, find_units
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class _Prepared:
    """What is known about one tensor: what its axes are made of, and each parent's orders, of the first one none."""

    axes: tuple[Axis | None, ...]
    orders: tuple[Orders, ...]

    @property
    def moves(self) -> bool:
        """Whether any parent's entries change their places."""
        keys = {axis.units for axis in self.axes if axis is not None}
        return any(keys & orders.keys() for orders in self.orders)


def _prepare(inputs: Inputs, tensors: ParentTensors) -> _Prepared:
    """Return the orders of each parent's units, which are found once per search."""
    units = tensors.once(
        "units of the model",
        lambda: find_units(tensors.tensors()),
        lambda found: 256 * len(found.axes),
        what="which units of the models have no order",
        of=[0],
    )
    whole = bool(inputs.values["residual"])
    if whole and units.strange:
        raise RecipeError(
            f"git_rebasin cannot put the residual stream of this model in another order (`residual: true`): it is not "
            f"clear which axis of {units.strange[0]} is the stream, nor of {len(units.strange) - 1} other tensors; "
            "leave `residual` false"
        )
    axes = units.axes.get(tensors.name, ())
    return _Prepared(axes, tuple(_orders(tensors, units, i, whole) for i in range(len(inputs.parents))))


def _orders(tensors: ParentTensors, units: Units, parent: int, whole: bool) -> Orders:
    """Return the orders of one parent's units that the task's tensor needs; with `whole` of all units."""
    bunch = units.bunch_of(tensors.name)
    if parent == 0 or (bunch is None and not whole):
        return {}

    def load(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        _, (a, b) = tensors.load(name, [0, parent])
        return a, b

    def find() -> dict[str, Orders]:
        matching = Matching(units, load)
        return {"": matching.match_all() if whole or bunch is None else matching.match([bunch])}

    key = RESIDUAL if whole or bunch is None else bunch.heads
    found: Mapping[str, Orders] = tensors.once(
        ("order of units", key),
        find,
        lambda made: 64 + sum(order.nbytes for order in made[""].values()),
        what="the order of the parents' units",
        of=[0, parent],
    )
    return found[""]


def _merge(inputs: Inputs) -> torch.Tensor:
    prepared = cast("_Prepared | None", inputs.prepared)
    parents = list(inputs.parents)
    if prepared is not None:
        parents = [reorder(x, prepared.axes, orders) for x, orders in zip(parents, prepared.orders, strict=True)]
    return linear(parents, weight=inputs.numbers("weight"), normalize=True)


def _program(inputs: Inputs) -> Program | None:
    """Return the average as a program where no entry changes its place."""
    if inputs.prepared is not None and inputs.prepared.moves:
        return None
    return Program(weight=shares(inputs.numbers("weight"), normalize=True))


METHOD = Method(
    spec=MethodSpec(
        name="git_rebasin",
        summary="weighted average after the units of all parents were put in the order of the first one's",
        paper="https://arxiv.org/abs/2209.04836",
        topic="alignment",
        parameters=(
            SHARE,
            Parameter(
                "residual",
                False,
                gene=False,
                in_groups=False,
                doc="put the residual stream in another order, too: for models that were trained from scratch",
            ),
        ),
        needs_base=False,
        n_parents=(2, None),
        formula="θ = Σ w_i π_i(θ_i) / Σ w_i, π_i = argmax Σ ⟨θ_1, π(θ_i)⟩, π_1 = identity",
        notes="Matched are hidden units of MLPs and attention heads (groups of keys and values, then the queries of "
        "each), found by shapes; biases go along. Never the dimensions inside of a head. What is not understood keeps "
        "its order: fused projections, experts in one tensor, ALiBi. Parents of one base hardly gain: there the order "
        "that they have is the best. With `residual` (coordinate ascent over the whole model, a local optimum) the "
        "models must share a tokenizer. Above 4096 units the assignment is greedy. All tensors of an MLP or an "
        "attention must be merged by this method, not some of them by a group's other one. Orders are found once per "
        "search; a candidate takes a few passes, tensors whose order stays a fused one. mergekit has no such method.",
    ),
    merge=_merge,
    program=_program,
    prepare=_prepare,
    active=first_and_weighted,
    one_input=lambda values: 0 if first_and_weighted(values) == (0,) else None,
    shows_bad=True,
    problems=lambda values: LINEAR.problems({**values, "normalize": True}),
    order_free=False,
)
