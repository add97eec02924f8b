"""SLERP: the point at t on the arc between two parents, each tensor taken as one flat vector.

With c = ⟨a,b⟩/(‖a‖‖b‖) and Ω = arccos c, the result is [sin((1−t)Ω) a + sin(tΩ) b] / sin Ω (Shoemake 1985,
https://doi.org/10.1145/325334.325242). The vectors keep their lengths. Nearly parallel or opposite vectors
(|c| > 0.9995) and zero vectors have no usable arc: they are interpolated on the line.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, TypeAlias, cast

from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.base import Inputs, Method, ParentTensors, Values, out_of_range, weighted_sum
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

PARALLEL = 0.9995
"""|cos Ω| above which the arc is replaced by the line."""

Dots: TypeAlias = tuple[float, float, float]
"""⟨a,a⟩, ⟨a,b⟩ and ⟨b,b⟩ of two tensors."""

_DOTS_BYTES = 64


def slerp(a: torch.Tensor, b: torch.Tensor, *, t: float) -> torch.Tensor:
    """Return the point at t between a (t = 0) and b (t = 1)."""
    from evomerge.merge.kernels.torch_engine import TorchEngine

    return weighted_sum([a, b], arc(TorchEngine().dots(a, b), t=t))


def arc(dots: Dots, *, t: float) -> tuple[float, float]:
    """Return the coefficients of two tensors with these dot products, at the point t between them."""
    aa, ab, bb = dots
    share_a, share_b = 1.0 - t, t
    if aa > 0.0 and bb > 0.0:
        c = ab / (math.sqrt(aa) * math.sqrt(bb))
        if c < -PARALLEL:
            warnings.warn(
                "SLERP of opposite tensors has no arc; interpolating on the line", RuntimeWarning, stacklevel=2
            )
        if abs(c) <= PARALLEL:
            omega = math.acos(c)
            share_a, share_b = math.sin((1.0 - t) * omega) / math.sin(omega), math.sin(t * omega) / math.sin(omega)
    return share_a, share_b


def _prepare(inputs: Inputs, tensors: ParentTensors) -> Dots:
    """Return the dot products of the two parents, which do not depend on t."""
    return tensors.once(
        ("dots", tensors.name),
        lambda: tensors.engine.dots(*inputs.parents),
        lambda dots: _DOTS_BYTES,
        what="the norms and the angles of the parents' tensors",
    )


def _program(inputs: Inputs) -> Program:
    return Program(weight=arc(inputs.prepared, t=inputs.number("t")))


def _one_input(values: Values) -> int | None:
    return {0.0: 0, 1.0: 1}.get(cast(float, values["t"]))


METHOD = Method(
    spec=MethodSpec(
        name="slerp",
        summary="point on the arc between two parents",
        paper="https://doi.org/10.1145/325334.325242",
        topic="angles",
        formula="θ = [sin((1−t)Ω) θ_1 + sin(tΩ) θ_2] / sin Ω, Ω = ∠(θ_1, θ_2), for each tensor",
        notes="Zero, nearly parallel and opposite vectors (|cos Ω| > 0.9995) are interpolated on the line. Both keep "
        "their lengths; t = 0 and t = 1 copy a parent bit for bit. A base takes no part; mergekit's `base_model` is "
        "the first parent. A candidate costs one pass.",
        parameters=(Parameter("t", 0.5, 0.0, 1.0, doc="0 is the first parent, 1 the second"),),
        needs_base=False,
        n_parents=(2, 2),
        of_equals={"t": 0.0},
    ),
    merge=lambda inputs: slerp(inputs.parents[0], inputs.parents[1], t=inputs.number("t")),
    program=_program,
    prepare=_prepare,
    prepare_without_torch=True,
    active=lambda values: (0, 1),
    one_input=_one_input,
    problems=lambda values: out_of_range(values, "t", 0.0, 1.0),
    order_free=False,
    shows_bad=True,
)
