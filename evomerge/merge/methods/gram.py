"""Merges in the span of their inputs, θ = Σ c_i θ_i or θ0 + Σ c_i τ_i, with coefficients from dot products alone.

The dot products of the parents' tensors (their Gram matrix) are found once per search. A candidate then costs a few
operations on N × N numbers and one pass of the fused kernel, whatever the method does with lengths and angles. Where
each row or column of a matrix has coefficients of its own, plain torch adds up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from evomerge.merge.kernels.engine import KernelEngine
from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.base import Inputs, ParentTensors, Values, weighted_sum

if TYPE_CHECKING:
    import torch

Coefficients: TypeAlias = Callable[[np.ndarray, Values], np.ndarray]
"""(Gram matrices `(n, n, n_parts)` float64, parameters) → coefficients `(n, n_parts)` float64."""

_STEP = 1 << 20
"""How many entries are computed at a time where rows or columns have coefficients of their own."""


def in_one_part(values: Values) -> bool:
    """Return whether each tensor has one coefficient for each input, so that the fused kernels compute it."""
    return values.get("scope", "tensor") == "tensor"


def find_gram(engine: KernelEngine, parents: Sequence[torch.Tensor], base: torch.Tensor | None = None) -> np.ndarray:
    """Return the dot products of the parents, or with a base of their task vectors: `(n, n, 1)` float64."""
    n = len(parents)
    gram = np.zeros((n, n, 1))
    for i in range(max(1, n - 1)):
        for j in range(min(i + 1, n - 1), n):  # one alone: with itself
            gram[i, i], gram[i, j], gram[j, j] = engine.dots(parents[i], parents[j], base)
            gram[j, i] = gram[i, j]
    return gram


def prepare(inputs: Inputs, tensors: ParentTensors) -> np.ndarray:
    """Return the Gram matrix of each part of a tensor, which no parameter changes; see `Preparation`."""
    scope = str(inputs.values.get("scope", "tensor"))

    def find() -> np.ndarray:
        if scope == "tensor":
            return find_gram(tensors.engine, inputs.parents, inputs.base)
        return _grams_of_parts(inputs.parents, inputs.base, scope)

    return tensors.once(
        ("gram", scope, tensors.name),
        find,
        lambda gram: gram.nbytes,
        what="the norms and the angles of the parents' tensors",
    )


def program(coefficients: Coefficients) -> Callable[[Inputs], Program | None]:
    """Return the `Method.program` of a method with these coefficients."""

    def make(inputs: Inputs) -> Program | None:
        if not in_one_part(inputs.values):
            return None
        return Program(weight=tuple(coefficients(inputs.prepared, inputs.values)[:, 0].tolist()))

    return make


def merge(coefficients: Coefficients) -> Callable[[Inputs], torch.Tensor]:
    """Return the `Method.merge` of a method with these coefficients."""

    def reference(inputs: Inputs) -> torch.Tensor:
        gram = inputs.prepared
        scope = str(inputs.values.get("scope", "tensor"))
        if gram is None and scope != "tensor":
            gram = _grams_of_parts(inputs.parents, inputs.base, scope)
        elif gram is None:
            from evomerge.merge.kernels.torch_engine import TorchEngine

            gram = find_gram(TorchEngine(), inputs.parents, inputs.base)
        found = coefficients(gram, inputs.values)
        if scope != "tensor":
            return _sum_of_parts(inputs, found, scope)
        terms = [each if inputs.base is None else each - inputs.base for each in inputs.parents]
        total = weighted_sum(terms, found[:, 0].tolist())
        return total if inputs.base is None else total.add_(inputs.base)

    return reference


def cosines(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the norms `(n, n_parts)` and the cosines `(n, n, n_parts)` of a Gram matrix; 0 where a norm is 0."""
    norms = np.sqrt(np.einsum("iik->ik", gram))
    products = norms[:, None] * norms[None, :]
    with np.errstate(invalid="ignore"):  # of tensors that are not finite; the result shows that
        return norms, np.clip(gram / np.where(products > 0.0, products, 1.0), -1.0, 1.0)


# Rows and columns.


def _as_columns(tensor: torch.Tensor, scope: str) -> torch.Tensor:
    """Return a view, `(length, n_parts)`, of a contiguous tensor: its rows or columns side by side."""
    if tensor.dim() < 2:
        return tensor.reshape(-1, 1)
    return tensor.reshape(-1, tensor.shape[-1]).T if scope == "row" else tensor.reshape(tensor.shape[0], -1)


def _grams_of_parts(parents: Sequence[torch.Tensor], base: torch.Tensor | None, scope: str) -> np.ndarray:
    columns = [_as_columns(each, scope) for each in parents]
    origin = None if base is None else _as_columns(base, scope)
    length, n_parts = columns[0].shape
    gram = np.zeros((len(parents), len(parents), n_parts))
    step = max(1, _STEP // max(1, length))
    for start in range(0, n_parts, step):
        here = slice(start, start + step)
        terms = [each[:, here].float() for each in columns]
        if origin is not None:
            terms = [term - origin[:, here].float() for term in terms]
        exact = [term.double() for term in terms]
        for i, x in enumerate(exact):
            for j in range(i, len(exact)):
                gram[i, j, here] = gram[j, i, here] = folded(x * exact[j]).cpu().numpy()
    return gram


def folded(x: torch.Tensor) -> torch.Tensor:
    """Return the sum over the first axis, by single additions: torch's own sums depend on the number of threads."""
    while x.shape[0] > 1:
        half = x.shape[0] // 2
        folded = x[:half] + x[half : 2 * half]
        if x.shape[0] % 2:
            folded[0] += x[-1]
        x = folded
    return x.sum(0)  # of one number or none


def _sum_of_parts(inputs: Inputs, coefficients: np.ndarray, scope: str) -> torch.Tensor:
    import torch

    origin = None if inputs.base is None else _as_columns(inputs.base, scope)
    out = torch.zeros_like(inputs.parents[0], memory_format=torch.contiguous_format)
    total = _as_columns(out, scope)
    weights = torch.from_numpy(coefficients.astype(np.float32)).to(out.device)
    step = max(1, _STEP // max(1, total.shape[0]))
    for start in range(0, total.shape[1], step):
        here = slice(start, start + step)
        for parent, weight in zip(inputs.parents, weights, strict=True):
            term = _as_columns(parent, scope)[:, here]
            total[:, here] += (term if origin is None else term - origin[:, here]) * weight[here]
        if origin is not None:
            total[:, here] += origin[:, here]
    return out


def positive_sum_problems(values: Values) -> list[str]:
    """Return a sentence for each negative weight, and one if all weights are 0."""
    weight = values["weight"]
    assert isinstance(weight, tuple)
    refused = [f"weight must not be negative with this method, but came {w:g}" for w in weight if w < 0.0]
    if not refused and not any(weight):
        refused.append("the weights are all 0, so that there is nothing to average; give a parent a weight above 0")
    return refused


def is_finite(gram: np.ndarray) -> bool:
    """Return whether all dot products are finite; if not, any coefficients give a result that shows it."""
    return bool(np.isfinite(gram).all())
