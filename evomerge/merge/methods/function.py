"""A merge method from a plain function on tensors: what someone with a new method writes first.

Its arguments are `parents` and, where it needs them, `base`, `seeds` and `at`; each further argument is a parameter,
declared by its default::

    def merge(base, parents, weight=WEIGHT, power=Parameter("power", 1.0, 0.5, 2.0, doc="of each entry's size")):
        "Sum of task vectors with their entries raised to a power. https://example.org"
        ...
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from evomerge.errors import RecipeError
from evomerge.merge.methods.base import Inputs, Method
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

_GIVEN = ("parents", "base", "seeds", "at")


@functools.cache
def from_function(function: Callable[..., torch.Tensor], name: str) -> Method:
    """Return the merge method of a function.

    It gets `parents` (a list of fp32 tensors of one shape, which it must not change), `base` (such a tensor), `seeds`
    (one number per parent, for random masks of this tensor), `at` (the tensor's name, role and layer), and each of its
    parameters: one number, or a tuple of numbers in the order of the parents. It returns a tensor of that shape.

    Args:
        function: its docstring begins with what it does, and may hold a link to the paper.
        name: by which recipes name it.

    Raises:
        RecipeError: if its arguments are others.
    """
    arguments = inspect.signature(function).parameters
    declared = {key: one.default for key, one in arguments.items() if key not in _GIVEN}
    wrong = [key for key, one in declared.items() if not isinstance(one, Parameter) or one.name != key]
    if wrong or "parents" not in arguments:
        raise RecipeError(
            f"merge method {name!r} is a function, so it takes `parents`, `base`, `seeds` or `at`, and parameters that "
            "are declared by their defaults, like power=Parameter('power', 1.0, 0.5, 2.0); but "
            + (f"{', '.join(wrong)} is none of these" if wrong else "it does not take `parents`")
        )
    text = inspect.getdoc(function) or ""
    link = re.search(r"https?://\S+", text)
    spec = MethodSpec(
        name=name,
        summary=re.sub(r"\s*https?://\S+", "", " ".join(text.split("\n\n")[0].split())).rstrip("."),
        paper="" if link is None else link[0].rstrip(".,)"),
        parameters=tuple(declared.values()),
        needs_base="base" in arguments,
        notes="A function on tensors: it is computed by torch, several times slower than a method with a program.",
    )

    def merge(inputs: Inputs) -> torch.Tensor:
        import torch

        given: dict[str, Any] = dict(zip(_GIVEN, (inputs.parents, inputs.base, inputs.seeds, inputs.at), strict=True))
        taken = {key: one for key, one in given.items() if key in arguments}
        found = function(**taken, **{key: inputs.values[key] for key in declared})
        shape = tuple(inputs.parents[0].shape)
        if not isinstance(found, torch.Tensor) or tuple(found.shape) != shape:
            came = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise RecipeError(f"{name} must return a tensor of the shape {shape}, but returned {came}")
        return found.to(torch.float32)

    return Method(
        spec=spec,
        merge=merge,
        active=None,
        one_input=lambda values: None,
        problems=lambda values: [],
        order_free=False,
    )
