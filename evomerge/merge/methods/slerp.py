"""SLERP: the point at t on the arc between two parents, each tensor taken as one flat vector.

With c = ⟨a,b⟩/(‖a‖‖b‖) and Ω = arccos c, the result is [sin((1−t)Ω) a + sin(tΩ) b] / sin Ω (Shoemake 1985,
https://doi.org/10.1145/325334.325242). The vectors keep their lengths. Nearly parallel or opposite vectors
(|c| > 0.9995) and zero vectors have no usable arc: they are interpolated on the line.
"""

from __future__ import annotations

import math
import warnings
from typing import cast

import torch

from evomerge.merge.methods.base import Method, Values, out_of_range
from evomerge.method import MethodSpec, Parameter

PARALLEL = 0.9995
"""|cos Ω| above which the arc is replaced by the line."""

# Below torch's grain size (32768) a reduction runs in one thread, so sums do not depend on the number of threads.
_CHUNK = 1 << 14


def slerp(a: torch.Tensor, b: torch.Tensor, *, t: float) -> torch.Tensor:
    """Return the point at t between a (t = 0) and b (t = 1)."""
    aa, ab, bb = _dots(a, b)
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
    return (a * share_a).add_(b, alpha=share_b)


def _dots(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float, float]:
    """Return ⟨a,a⟩, ⟨a,b⟩ and ⟨b,b⟩, accumulated in float64 in a fixed order."""
    aa = ab = bb = 0.0
    for a64, b64 in zip(a.reshape(-1).split(_CHUNK), b.reshape(-1).split(_CHUNK), strict=True):
        x, y = a64.double(), b64.double()
        aa += (x * x).sum().item()
        ab += (x * y).sum().item()
        bb += (y * y).sum().item()
    return aa, ab, bb


def _one_input(values: Values) -> int | None:
    return {0.0: 0, 1.0: 1}.get(cast(float, values["t"]))


METHOD = Method(
    spec=MethodSpec(
        name="slerp",
        summary="point on the arc between two parents",
        paper="https://doi.org/10.1145/325334.325242",
        parameters=(Parameter("t", 0.5, 0.0, 1.0, doc="0 is the first parent, 1 the second"),),
        needs_base=False,
        n_parents=(2, 2),
    ),
    merge=lambda inputs: slerp(inputs.parents[0], inputs.parents[1], t=inputs.number("t")),
    active=lambda values: (0, 1),
    one_input=_one_input,
    problems=lambda values: out_of_range(values, "t", 0.0, 1.0),
    order_free=False,
)
