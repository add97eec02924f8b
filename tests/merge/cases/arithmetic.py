"""`linear` and `slerp`: weights and arcs without task vectors."""

import math
from collections.abc import Sequence

import torch
from method_case import MethodCase, Values

from evomerge.merge.methods.tensor_at import TensorAt


def linear(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    total = sum(w * x for w, x in zip(values["weight"], parents, strict=True))
    assert isinstance(total, torch.Tensor)
    return total / sum(values["weight"]) if values["normalize"] else total


def slerp(
    base: torch.Tensor | None, parents: Sequence[torch.Tensor], values: Values, seeds: Sequence[int], at: TensorAt
) -> torch.Tensor:
    (a, b), t = parents, values["t"]
    norms = float(a.norm() * b.norm())
    c = float((a * b).sum()) / norms if norms else 1.0
    if abs(c) > 0.9995:
        return (1 - t) * a + t * b
    omega = math.acos(c)
    return (math.sin((1 - t) * omega) * a + math.sin(t * omega) * b) / math.sin(omega)


CASES = {
    "linear": MethodCase(
        linear,
        values=(
            {"weight": (0.9, 0.4, 0.7)},
            {"weight": (1.0, 0.0, -0.3)},
            {"weight": (0.2, 0.5, 0.1), "normalize": False},
        ),
        holds={"P1": {"weight": (3.0,) * 3}, "P2": {"weight": (0.9, 0.4, 0.7)}, "P3": {}},
    ),
    "slerp": MethodCase(
        slerp, values=({"t": 0.0}, {"t": 0.3}, {"t": 1.0}), holds={"P2": {"t": 0.3}, "P3": {"t": 0.7}}, atol=1e-5
    ),
}
