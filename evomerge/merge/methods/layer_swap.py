"""Layer swapping: the lowest and the highest layers of one model, the middle of another. https://arxiv.org/abs/2410.01335.

Training on a task moves the middle layers most, training on a language those at both ends. So the first parent keeps
the middle, and the `bottom` lowest and `top` highest layers are the other's; between them lie `transition` layers of a
mix of both. With more than two parents the ends are the weighted mean of all but the first, and groups of layers can
give each of them to one parent by its weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.base import Method, Values, nonzero, only_weighted, out_of_range, too_small
from evomerge.merge.methods.linear import SMALLEST_SUM, linear
from evomerge.merge.methods.parameters import SHARE
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.recipe.method import MethodSpec, Parameter

_SOURCES = {"first": 0.0, "mean": 0.5, "others": 1.0}
"""The share of the ends in tensors outside of the layers, by who lends them."""


def share_of_ends(values: Values, at: TensorAt) -> float:
    """Return how much of a tensor comes from the parents of the ends; the rest is the first parent's."""
    layer = at.layer
    if layer is None:
        below = at.role == "embedding"
        source = cast(str, values["embedding" if below else "head"])
        if source in _SOURCES:
            return _SOURCES[source]
        layer = 0 if below else at.n_layers - 1
    return max(_at(layer, "bottom", values), _at(at.n_layers - 1 - layer, "top", values))


def _at(distance: int, end: str, values: Values) -> float:
    """Return the share of one end's parents in a layer that is so many layers away from it."""
    owned, width = (int(cast(float, values[name])) for name in (end, "transition"))
    if distance < owned:
        return 1.0
    into = distance - owned
    if owned == 0 or into >= width:  # an end without layers has no border
        return 0.0
    return (width - into) / (width + 1) if values["zone"] == "ramp" else cast(float, values["mix"])


def _values_at(values: Values, at: TensorAt) -> Values:
    """Return the values with each parent's coefficient as its weight."""
    ends = share_of_ends(values, at)
    others = cast("tuple[float, ...]", values["weight"])[1:]
    return {**values, "weight": (1.0 - ends, *(ends * w / sum(others) for w in others))}


def _problems(values: Values) -> list[str]:
    others = cast("tuple[float, ...]", values["weight"])[1:]
    problems = [text for name in ("bottom", "top", "transition") for text in too_small(values, name)]
    problems += out_of_range(values, "mix", 0.0, 1.0)
    problems += [f"weight must not be negative with this method (it is a share), but came {w:g}"
                 for w in others if w < 0]  # fmt: skip
    if all(w >= 0 for w in others) and sum(others) < SMALLEST_SUM:
        problems.append("the weights of all parents but the first are 0, so nobody owns the ends; give one a weight")
    return problems


METHOD = Method(
    spec=MethodSpec(
        name="layer_swap",
        summary="the middle layers of the first parent, the lowest and highest ones of the others",
        paper="https://arxiv.org/abs/2410.01335",
        topic="layers",
        parameters=(
            Parameter(
                "bottom",
                2,
                0,
                8,
                integer=True,
                scope="global",
                of_layers=0.5,
                doc="b, how many of the lowest layers change",
            ),
            Parameter(
                "top",
                2,
                0,
                8,
                integer=True,
                scope="global",
                of_layers=0.5,
                doc="t, how many of the highest layers change",
            ),
            Parameter(
                "transition",
                1,
                0,
                4,
                integer=True,
                scope="global",
                doc="z, how many layers next to each changed end are a mix",
            ),
            Parameter(
                "zone",
                "flat",
                choices=("flat", "ramp"),
                gene=False,
                scope="global",
                doc="the share of the ends there: one number, or falling evenly towards the middle",
            ),
            Parameter(
                "mix",
                0.5,
                0.0,
                1.0,
                scope="global",
                when={"zone": ("flat",)},
                doc="the share of the ends in the layers of the transition",
            ),
            Parameter(
                "embedding",
                "nearest",
                choices=("nearest", "first", "others", "mean"),
                gene=False,
                scope="global",
                doc="who lends embeddings: as the lowest layer, the first parent, the others, or the mean of both",
            ),
            Parameter(
                "head",
                "nearest",
                choices=("nearest", "first", "others", "mean"),
                gene=False,
                scope="global",
                doc="who lends the final norm and an untied head: as the highest layer, or as for embeddings",
            ),
            replace(
                SHARE,
                for_first=False,
                gene=False,
                doc="with three or more parents: the share of each but the first in the ends",
            ),
        ),
        needs_base=False,
        n_parents=(2, None),
        formula="θ = (1 − s_l) θ1 + s_l Σ w_i θ_i / Σ w_i, i ≥ 2, with s_l = 1 in layers l < b and l ≥ L − t, "
        "the mix in the z layers next to them, 0 between",
        notes="An end that owns no layers has no transition. Where both ends reach a layer, the larger share counts, "
        "so b + t ≥ L gives all layers to the others. Layers of one owner are copied bit for bit. Tied heads are the "
        "embedding. More owners: groups of layers with weights of their own, such as {layers: [0, 4], parameters: "
        "{weight: {b: 1, c: 0}}}. A search gives each end at most half of the model's layers. The paper's own numbers "
        "of layers are for Llama 3.1 8B (32 layers); search them. "
        "mergekit has no such method; slices of linear merges build the same model.",
    ),
    merge=lambda inputs: linear(inputs.parents, weight=inputs.numbers("weight"), normalize=False),
    program=lambda inputs: Program(weight=inputs.numbers("weight")),
    active=lambda values: nonzero(values, "weight"),
    one_input=only_weighted,
    problems=_problems,
    order_free=False,
    shows_bad=True,
    values_at=_values_at,
)
