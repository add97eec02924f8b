"""Degrees of homogeneity: how each intermediate tensor of a forward pass scales with the residual stream.

A tensor y(x) has degree d in the stream x if y(λx) = λᵈ·y(x) for every λ > 0. A norm turns degree 1 into degree 0 (up
to its epsilon, which is ignored here), a linear map keeps the degree, and a softmax is defined for degree 0 only.
`Degrees` follows these rules through the real forward pass of a model on the meta device, so a family is judged by its
code; no family and no parameter is known by name here.

Beside the degree, each tensor has scalers, the parameters that scale it linearly: dividing all of them by a number
divides the tensor by that number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Scaler: TypeAlias = tuple[str, float]
"""A parameter and the number that its module adds to it before use: 1.0 where a norm multiplies by 1 + w."""

_LARGEST_EPSILON = 1e-2
"""The bound below which a constant that is added to a tensor of degree above 0 counts as an epsilon."""

_LINEAR = frozenset({
    "view", "_unsafe_view", "reshape", "transpose", "permute", "t", "unsqueeze", "squeeze", "expand", "slice", "select",
    "clone", "_to_copy", "to", "detach", "alias", "contiguous", "split", "split_with_sizes", "chunk", "unbind", "index",
    "index_select", "gather", "repeat", "flatten", "unflatten", "narrow", "roll", "neg", "mean", "sum", "cumsum",
    "dropout", "lift_fresh", "view_as", "unfold", "flip", "constant_pad_nd", "repeat_interleave", "triu", "tril",
    "view_as_complex", "view_as_real",
})  # fmt: skip
"""Operations on one tensor that commute with any factor."""

_KEEPING = _LINEAR | {"amax", "amin", "max", "min", "abs", "relu", "linalg_vector_norm", "norm"}
"""Operations on one tensor that commute with a positive factor."""

_PRODUCTS = frozenset({"mul", "mm", "bmm", "matmul", "linear", "dot", "mv", "convolution"})

_NORMS = frozenset({"native_layer_norm", "_fused_rms_norm", "rms_norm", "layer_norm"})

_CONSTANTS = frozenset({"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_empty",
                        "new_full", "sign"})  # fmt: skip
"""Operations that use nothing but the shape or the sign of a tensor."""


class NotHomogeneousError(Exception):
    """The forward pass does not scale with the residual stream; the text says where."""


@dataclass(frozen=True)
class Scaling:
    """How a tensor scales.

    Attributes:
        degree: its degree in the residual stream; None if only `leaf` plus an offset has one.
        scalers: the parameters that together scale it linearly; None if there are none.
        leaf: the parameter of which it is a view (or a cast), with the number that was added to it.
    """

    degree: float | None = 0.0
    scalers: frozenset[Scaler] | None = None
    leaf: Scaler | None = None


CONSTANT = Scaling()


class Degrees(TorchDispatchMode):
    """Follows degrees and scalers through everything that torch computes while the mode is on.

    Args:
        parameters: the tensors that may be scalers, by name.
        chosen: the parameters (with their offsets) that have degree 1 in the second run, which proves that dividing
            them does what the first run assumes; empty in the first run.
        on_sum: called with the scalers of the branch when a branch of degree 0 is added to a tensor of degree 1; None:
            such a sum is refused.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        *,
        chosen: Iterable[Scaler] = (),
        on_sum: Callable[[frozenset[Scaler] | None], None] | None = None,
    ) -> None:
        super().__init__()
        self._on_sum = on_sum
        self._chosen = dict(chosen)
        self._known: dict[int, tuple[torch.Tensor, Scaling]] = {}  # holds the tensors, so that no id is used twice
        for name, tensor in parameters.items():
            self._known[id(tensor)] = (tensor, self._leaf(name, 0.0))

    def of(self, tensor: torch.Tensor) -> Scaling:
        """Return how a tensor scales; a tensor that does not depend on the stream has degree 0."""
        known = self._known.get(id(tensor))
        return known[1] if known is not None else CONSTANT

    def set(self, tensor: torch.Tensor, scaling: Scaling) -> None:
        """Note how a tensor scales."""
        self._known[id(tensor)] = (tensor, scaling)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute an operation as torch does, and the degrees of its results."""
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[-1]
        in_place = name.endswith("_") and not name.endswith("__")
        scaling = self._scaling(name.removesuffix("_") if in_place else name, args, kwargs or {})
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.set(tensor, scaling)
        return result

    def _leaf(self, name: str, offset: float) -> Scaling:
        here = (name, offset)
        if name not in self._chosen:
            return Scaling(0.0, frozenset({here}), here)
        return Scaling(1.0 if self._chosen[name] == offset else None, frozenset({here}), here)

    def _scaling(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Scaling:
        if name in ("add", "sub", "rsub"):
            return self._sum(args[0], args[1])
        if name == "copy":
            return self.of(args[1])
        inputs = [self.of(tensor) for tensor in _tensors((args, kwargs.values()))]
        if any(one.degree is None for one in inputs) and name not in _LINEAR:
            lost = next(one.leaf for one in inputs if one.degree is None)
            raise NotHomogeneousError(f"{lost[0] if lost else 'a parameter'} is used in two different ways")
        if name in _NORMS:
            return self._norm(args)
        if name in _KEEPING:
            return self._kept(name, args)
        if name in ("cat", "stack"):
            return self._together([self.of(tensor) for tensor in args[0]], "joined")
        if name in ("addmm", "baddbmm", "addmv", "addbmm"):
            return self._sum(args[0], _product(self.of(args[1]), self.of(args[2])))
        if name in _PRODUCTS:
            found = [self.of(one) if isinstance(one, torch.Tensor) else CONSTANT for one in args[:2]]
            made = _product(found[0], found[1])
            has_bias = name in ("linear", "convolution") and len(args) > 2 and args[2] is not None
            return self._sum(args[2], made) if has_bias else made
        return self._other(name, args, inputs)

    def _other(self, name: str, args: Sequence[Any], inputs: Sequence[Scaling]) -> Scaling:
        degrees = [one.degree or 0.0 for one in inputs]
        if not any(degrees):
            linear = name == "div" and len(inputs) > 0
            return Scaling(0.0, inputs[0].scalers if linear else None)
        first = degrees[0]
        if name == "div":
            return Scaling(first - sum(degrees[1:]), inputs[0].scalers)
        if name == "pow" and isinstance(args[1], (int, float)):
            return Scaling(first * args[1])
        if name in ("sqrt", "rsqrt", "reciprocal", "square", "var"):
            factor = {"sqrt": 0.5, "rsqrt": -0.5, "reciprocal": -1.0, "square": 2.0, "var": 2.0}[name]
            return Scaling(first * factor)
        if name in ("clamp", "clamp_min", "maximum"):
            least = args[1] if len(args) > 1 else None  # max(norm, eps), another way to keep a norm from zero
            if isinstance(least, (int, float)) and 0 <= least <= _LARGEST_EPSILON and not any(args[2:]):
                return Scaling(first)
        if name in _CONSTANTS:
            return CONSTANT
        raise NotHomogeneousError(f"`{name.strip('_')}` reads the residual stream before any norm")

    def _sum(self, left: Any, right: Any) -> Scaling:
        one, two = (
            self.of(each) if isinstance(each, torch.Tensor) else each if isinstance(each, Scaling) else None
            for each in (left, right)
        )
        if one is None or two is None:  # a plain number
            scaling, number = (one, right) if one is not None else (two, left)
            assert scaling is not None  # torch adds no two numbers
            return self._plus(scaling, float(number))
        if one.degree is None or two.degree is None:
            raise NotHomogeneousError("a parameter that scales a branch is used in two different ways")
        if one.degree == two.degree:
            return self._together([one, two], "added")
        stream, branch = (one, two) if one.degree > two.degree else (two, one)
        if self._on_sum is not None and (stream.degree, branch.degree) == (1.0, 0.0):
            self._on_sum(branch.scalers)
            return Scaling(1.0)
        raise NotHomogeneousError(
            f"tensors that scale with different powers of the residual stream ({_powers(one, two)}) are added"
        )

    def _plus(self, scaling: Scaling, number: float) -> Scaling:
        if scaling.leaf is not None:
            parameter, offset = scaling.leaf
            return self._leaf(parameter, offset + number)
        if scaling.degree == 0 or abs(number) <= _LARGEST_EPSILON:
            return replace(scaling, scalers=None)
        raise NotHomogeneousError(f"the constant {number:g} is added to what scales with the residual stream")

    def _together(self, parts: Sequence[Scaling], verb: str) -> Scaling:
        if len({part.degree for part in parts}) > 1:
            raise NotHomogeneousError(f"tensors that scale with different powers of the residual stream are {verb}")
        scalers = [part.scalers for part in parts]
        if any(each is None for each in scalers):
            return Scaling(parts[0].degree)
        return Scaling(parts[0].degree, frozenset().union(*(each for each in scalers if each is not None)))

    def _kept(self, name: str, args: Sequence[Any]) -> Scaling:
        source, *others = _tensors(args)
        if not all(is_zero(self.of(other).degree) for other in others):  # an index that depends on the stream, say
            raise NotHomogeneousError(f"`{name}` depends on the residual stream in a second way")
        scaling = self.of(source)
        return scaling if name in _LINEAR else Scaling(scaling.degree)

    def _norm(self, args: Sequence[Any]) -> Scaling:
        weights = [self.of(tensor) for tensor in _tensors(args[2:])]
        if not weights:
            return CONSTANT
        return self._together(weights, "added")


def _product(left: Scaling, right: Scaling) -> Scaling:
    """Return how a product scales: by a parameter that is one of its factors, else by the scalers of one factor."""
    degree = (left.degree or 0.0) + (right.degree or 0.0)
    order = sorted((right, left), key=lambda one: one.leaf is None)
    scalers = next((one.scalers for one in order if one.scalers is not None), None)
    return Scaling(degree, scalers)


def _powers(one: Scaling, two: Scaling) -> str:
    return " and ".join(f"{degree:g}" for degree in sorted((one.degree or 0.0, two.degree or 0.0)))


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """Yield all tensors in nested arguments, in order."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)) or type(value).__name__ == "dict_values":
            yield from _tensors(value)


def is_zero(degree: float | None) -> bool:
    """Return whether a degree is zero, up to rounding: degrees are sums of halves, but powers may be any number."""
    return degree is not None and math.isclose(degree, 0.0, abs_tol=1e-9)
