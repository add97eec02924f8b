"""What the property tests know about each merge method: a reference, and which of the properties P1 to P10 it keeps.

Each file in `cases/` holds the cases of one file of methods, as `CASES`, by name. `test_merge_properties.py` runs them
over odd shapes and contents, through the method's own way (prepare, then program or merge) and through its reference.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch

from evomerge.merge.methods.tensor_at import TensorAt

Values: TypeAlias = Mapping[str, Any]

Reference: TypeAlias = Callable[
    ["torch.Tensor | None", "list[torch.Tensor]", Values, "list[int]", TensorAt], "torch.Tensor"
]
"""(base, parents, values, seeds, at) → the result: float64 in, float64 out, written from the formula alone."""


WholeReference: TypeAlias = Callable[
    ["Mapping[str, torch.Tensor]", "list[Mapping[str, torch.Tensor]]", Values, "Mapping[str, TensorAt]"],
    "Mapping[str, torch.Tensor]",
]
"""The same for methods that join all tensors of the models: (base, parents, values, places) → the results, by name."""


ARITHMETIC = ("dare_linear", "dare_ties", "linear", "slerp", "task_arithmetic", "ties")
"""A method of each kind, whose parameters are weights, densities and a place on an arc, for tests of other things."""


@dataclass(frozen=True)
class MethodCase:
    """The case of one method.

    Attributes:
        reference: independent arithmetic in float64; it must share no code with the method. None: see `whole`.
        values: sets of parameters to try beside the defaults, from the corners too; of a per-parent parameter three
            numbers, of which the first are taken if there are fewer parents.
        holds: property to the parameters with which it holds. "P1": one parent is the result; "P2": of equal parents
            each is the result; "P3": parents that equal the base give the base; "P4": the base is the result, whatever
            the parents; "P10": merge(θ0 + cτ) − θ0 = c · (merge(θ0 + τ) − θ0). A property that is absent does not hold.
        rtol, atol: how far fp32 may be from the reference, relative to the largest |entry| of the inputs.
        jumps: whether the result jumps where inputs change by rounding (ties in a ranking, a sign of a sum that is 0).
            The contents that have such ties are then left out of the comparison with the reference.
        whole: the reference where a tensor's result depends on the other tensors of the models.
    """

    reference: Reference | None
    values: tuple[Values, ...] = ()
    holds: Mapping[str, Values] = field(default_factory=dict)
    rtol: float = 1e-5
    atol: float = 1e-6
    jumps: bool = False
    whole: WholeReference | None = None


def all_cases() -> dict[str, MethodCase]:
    """Return the cases of all files."""
    found: dict[str, MethodCase] = {}
    for path in sorted((Path(__file__).parent / "cases").glob("[!_]*.py")):
        found |= importlib.import_module(f"cases.{path.stem}").CASES
    return found
