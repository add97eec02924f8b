"""Geometric median: the point whose summed distance to the parents, Σ w_i ‖θ − θ_i‖, is smallest, for each tensor.

Fewer than half of the parents, by weight, cannot drag it far. Weiszfeld's iteration with smoothed weights
β_i = w_i / max(ν, ‖θ − θ_i‖) (Pillutla et al., https://arxiv.org/abs/1912.13445, algorithm 2), on the distances between
the parents alone, which are found once per search. Where the median is one of the parents, which the iteration reaches
only slowly, Vardi and Zhang's condition (https://doi.org/10.1073/pnas.97.4.1423) says so beforehand.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from evomerge.merge.methods import gram as span
from evomerge.merge.methods.base import Inputs, Method, ParentTensors, Values, nonzero, only_weighted, too_small
from evomerge.merge.methods.parameters import SHARE
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

_CLEARLY = 1.0 - 1e-12
"""A parent is the median if it is so by more than rounding."""


def coefficients(gram: np.ndarray, values: Values) -> np.ndarray:
    """Return the coefficients of the parents, `(n, 1)`, from the dot products of their differences to the first."""
    weight = np.array(cast("tuple[float, ...]", values["weight"]))
    if not span.is_finite(gram):
        return weight[:, None]
    square = np.einsum("iik->ik", gram)[:, 0]
    squares = np.maximum(0.0, square[:, None] + square - 2.0 * gram[:, :, 0])
    found = median_of(
        squares,
        weight / weight.sum(),
        max_iter=int(cast(float, values["max_iter"])),
        tol=cast(float, values["tol"]),
        smoothing=cast(float, values["smoothing"]),
    )
    return found[:, None]


def median_of(squares: np.ndarray, weight: np.ndarray, *, max_iter: int, tol: float, smoothing: float) -> np.ndarray:
    """Return the shares, which sum to 1, with which points sum to their geometric median.

    Args:
        squares: `(n, n)`, the squared distances of the points.
        weight: `(n,)`, their weights, which sum to 1.
        max_iter: how many steps are made at most.
        tol: the step that ends the iteration, and
        smoothing: ν, both relative to the largest distance of two points.
    """
    distance, largest = np.sqrt(squares), float(np.sqrt(squares.max()))
    for k in range(len(weight)):
        others = squares[k] > 0.0
        pull = weight[others] / distance[k, others]
        inner = (squares[k, others][:, None] + squares[k, others] - squares[np.ix_(others, others)]) / 2.0
        if np.sqrt(max(0.0, float((pull[:, None] * pull * inner).sum()))) < weight[~others].sum() * _CLEARLY:
            return np.eye(len(weight))[k]
    return np.array(_weiszfeld(squares.tolist(), weight.tolist(), max_iter, tol * largest, smoothing * largest))


def _weiszfeld(
    squares: list[list[float]], weight: list[float], max_iter: int, shortest: float, nearest: float
) -> list[float]:
    """Return the shares of the points, from the weighted mean on; in Python's numbers, since arrays are too small."""

    def dot(x: Sequence[float], y: Sequence[float]) -> float:
        return math.fsum(map(operator.mul, x, y))

    share = weight
    for _ in range(max_iter):
        reach = [dot(row, share) for row in squares]
        half = dot(share, reach) / 2.0
        pull = [w / max(nearest, math.sqrt(max(0.0, each - half))) for w, each in zip(weight, reach, strict=True)]
        total = math.fsum(pull)
        before, share = share, [each / total for each in pull]
        change = [new - old for new, old in zip(share, before, strict=True)]
        if -dot(change, [dot(row, change) for row in squares]) / 2.0 < shortest * shortest:
            break
    return share


def _prepare(inputs: Inputs, tensors: ParentTensors) -> np.ndarray:
    """Return the dot products of the parents' differences to the first, which are as exact as the distances need."""
    return tensors.once(
        ("distances", tensors.name),
        lambda: span.find_gram(tensors.engine, inputs.parents, inputs.parents[0]),
        lambda gram: gram.nbytes,
        what="the distances of the parents' tensors",
    )


def _merge(inputs: Inputs) -> torch.Tensor:
    gram = inputs.prepared
    if gram is None:
        from evomerge.merge.kernels.torch_engine import TorchEngine

        gram = span.find_gram(TorchEngine(), inputs.parents, inputs.parents[0])
    return span.merge(coefficients)(replace(inputs, prepared=gram))


def _problems(values: Values) -> list[str]:
    steps = too_small(values, "max_iter", 1.0) + too_small(values, "tol")
    return span.positive_sum_problems(values) + steps + too_small(values, "smoothing", above=True)


METHOD = Method(
    spec=MethodSpec(
        name="geometric_median",
        summary="the point with the smallest summed distance to the parents: an average that outliers cannot drag far",
        paper="https://arxiv.org/abs/1912.13445",
        topic="averages",
        parameters=(
            replace(SHARE, doc="w_i, how much each parent's distance counts"),
            Parameter("max_iter", 100, 1, 1000, integer=True, gene=False, doc="most steps of the iteration"),
            Parameter("tol", 1e-7, 1e-12, 1e-3, gene=False, doc="the step that ends it, of the largest distance"),
            Parameter("smoothing", 1e-6, 1e-9, 1e-2, gene=False, doc="ν, the least distance, of the largest one"),
        ),
        needs_base=False,
        share="weight",
        of_equals={},
        formula="θ = argmin Σ w_i ‖θ − θ_i‖, for each tensor",
        notes="The same of weights and of task vectors. Two parents: the heavier one, or the middle. A parent (with "
        "its equals) that outweighs the pull of all others is the median, exactly. Iterated on distances found "
        "once per search, so a candidate costs one pass.",
    ),
    merge=_merge,
    program=span.program(coefficients),
    prepare=_prepare,
    prepare_without_torch=True,
    active=lambda values: nonzero(values, "weight"),
    one_input=only_weighted,
    problems=_problems,
    shows_bad=True,
)
