"""Rules for the scales W of a layer path: what the input of each step is multiplied by.

Akiba et al. (arXiv 2403.13187, section 3.2) evolve W with the path, since layers meet inputs there that they never saw
in training: W_ij for an input that goes from layer i to layer j, or, for many layers, W_ij = pi_theta(i, j, t) by a
small network whose weights are the genes. The input of the first step comes from the embeddings, so it has no scale.
All rules start at scale 1.

Positions count the layers of all parents in sequence, repeated r times: 0 to T - 1; the last layer, which ends each
path, is at position T.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from evomerge.genome.frame import is_whole
from evomerge.genome.space import Gene

SCALES = ("none", "step", "matrix", "network")

WEIGHT_RANGE = 2.0
"""The network's weights lie in ±2. Each layer divides by the square root of its number of inputs, so that the output is
in its linear part at the first step sizes and can reach the ends of the range later."""


@dataclass(frozen=True)
class LayerSequence:
    """The layers of all parents in sequence, repeated.

    Attributes:
        layers: parent and index of each of the M layers.
        n_layers: the depth of each parent, in order.
        repeats: r, how often the sequence is repeated.
    """

    layers: tuple[tuple[str, int], ...]
    n_layers: tuple[int, ...]
    repeats: int

    @property
    def n_positions(self) -> int:
        """The number of positions, T = M r."""
        return len(self.layers) * self.repeats

    def layer_at(self, position: int) -> int:
        """Return which of the M layers is at a position; at T it is the first parent's last one, which ends paths."""
        return self.n_layers[0] - 1 if position == self.n_positions else position % len(self.layers)

    def name(self, layer: int) -> str:
        """Return a layer's name in the names of genes."""
        parent, index = self.layers[layer]
        return f"{parent}.layer{index}"


class ScaleRule(Protocol):
    """Turns genes into the scales of a path."""

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The genes of the rule."""
        ...

    def scales(self, values: Sequence[float], positions: Sequence[int]) -> list[float]:
        """Return the scale of each step's input; 1 for the first step.

        Args:
            values: one per gene.
            positions: the steps' positions, in the order of the path; T for the last layer.
        """
        ...


class NoScales:
    """The rule by which every scale is 1: the ablation of the paper."""

    genes: tuple[Gene, ...] = ()

    def scales(self, values: Sequence[float], positions: Sequence[int]) -> list[float]:
        """Return 1 for each step."""
        del values
        return [1.0] * len(positions)


class StepScales:
    """The rule with one scale per position, for the input of its layer, and one for the input of the last layer."""

    def __init__(self, sequence: LayerSequence, low: float, high: float) -> None:
        names = [
            f"pass{position // len(sequence.layers) + 1}.{sequence.name(sequence.layer_at(position))}"
            for position in range(1, sequence.n_positions)
        ]
        self.genes = tuple(
            scale_gene(f"scale.{name}", low, high, "multiplies the input of this layer, where the path includes it")
            for name in [*names, "last"]
        )

    def scales(self, values: Sequence[float], positions: Sequence[int]) -> list[float]:
        """Return the scale gene of each position."""
        return [1.0, *(snapped(values[position - 1]) for position in positions[1:])]


class MatrixScales:
    """The rule with an `(M, M)` matrix W: one scale for each pair of layers of which one can follow the other.

    In one pass over the sequence, a layer can be followed only by later layers and by the last layer, so other pairs
    have no gene; with two passes or more, all M^2 pairs have one.
    """

    def __init__(self, sequence: LayerSequence, low: float, high: float) -> None:
        self._sequence = sequence
        size, end = len(sequence.layers), sequence.layer_at(sequence.n_positions)
        pairs = [
            (i, j) for i in range(size) for j in range(size) if sequence.repeats > 1 or i < j or (i >= end and j == end)
        ]
        self._index = {pair: index for index, pair in enumerate(pairs)}
        self.genes = tuple(
            scale_gene(
                f"scale.{sequence.name(i)}.to.{sequence.name(j)}",
                low,
                high,
                "multiplies what goes from the one layer to the other",
            )
            for i, j in pairs
        )

    def scales(self, values: Sequence[float], positions: Sequence[int]) -> list[float]:
        """Return W_ij for each step from i to j."""
        layers = [self._sequence.layer_at(position) for position in positions]
        pairs = pairwise(layers)
        return [1.0, *(snapped(values[self._index[pair]]) for pair in pairs)]


class NetworkScales:
    """The rule W_ij = pi_theta(i, j, t), by a feed-forward network with one hidden layer of tanh units.

    Its inputs are t / T and, for each of i and j, the layer's depth as a share of its parent's and the parent as a
    one-hot vector. Its output y in (-1, 1) becomes high^y or low^-y, so theta = 0 gives scale 1.
    """

    def __init__(self, sequence: LayerSequence, low: float, high: float, hidden: int) -> None:
        self._sequence, self._low, self._high = sequence, low, high
        n_parents = len(sequence.n_layers)
        self._features = np.zeros((len(sequence.layers), 1 + n_parents))
        parents = [(parent, index) for parent, depth in enumerate(sequence.n_layers) for index in range(depth)]
        for layer, (parent, index) in enumerate(parents):
            self._features[layer, 0] = index / max(1, sequence.n_layers[parent] - 1)
            self._features[layer, 1 + parent] = 1.0
        self._shape = (hidden, 2 * self._features.shape[1] + 1)
        names = [f"hidden{unit}.input{number}" for unit in range(hidden) for number in range(self._shape[1])]
        names += [f"hidden{unit}.bias" for unit in range(hidden)]
        names += [f"output.hidden{unit}" for unit in range(hidden)]
        self.genes = tuple(
            Gene(f"scale.{name}", -WEIGHT_RANGE, WEIGHT_RANGE, 0.0, doc="weight of the network that gives the scales")
            for name in [*names, "output.bias"]
        )

    def scales(self, values: Sequence[float], positions: Sequence[int]) -> list[float]:
        """Return pi_theta(i, j, t) for each step from i to j at position t."""
        hidden, n_inputs = self._shape
        theta = np.asarray(values, dtype=np.float64)
        first, bias, second, last = np.split(theta, np.cumsum([hidden * n_inputs, hidden, hidden]))
        layers = self._features[[self._sequence.layer_at(position) for position in positions]]
        times = np.asarray(positions[1:], dtype=np.float64)[:, None] / self._sequence.n_positions
        inputs = np.concatenate([layers[:-1], layers[1:], times], axis=1)
        # Sums rather than matrix products, since BLAS rounds those differently for other numbers of threads.
        weights = first.reshape(hidden, n_inputs) / math.sqrt(n_inputs)
        units = np.tanh((inputs[:, None, :] * weights).sum(axis=2) + bias)
        output = np.tanh((units * second).sum(axis=1) / math.sqrt(hidden) + last)
        # Rounded to twelve digits, so that the tanh of another processor gives the same recipe.
        return [1.0, *(float(f"{self._high**y if y >= 0 else self._low**-y:.12g}") for y in output.tolist())]


def make_rule(name: str, sequence: LayerSequence, low: float, high: float, hidden: int) -> ScaleRule:
    """Return the rule of that name, one of `SCALES`."""
    if name == "step":
        return StepScales(sequence, low, high)
    if name == "matrix":
        return MatrixScales(sequence, low, high)
    if name == "network":
        return NetworkScales(sequence, low, high, hidden)
    return NoScales()


def scale_gene(name: str, low: float, high: float, doc: str) -> Gene:
    """Return the gene of one scale, which is logarithmic and starts at 1."""
    return Gene(name, low, high, 1.0, log=True, doc=doc)


def snapped(scale: float) -> float:
    """Return a scale, made exactly 1 if it is 1 up to rounding: in a range like [0.3, 3] the start is not exact."""
    return 1.0 if abs(scale - 1.0) < 1e-9 else scale


def range_problems(low: Any, high: Any) -> list[str]:
    """Return the mistakes in the range of the scales, one sentence each."""
    problems = [
        f"`{name}` must be a finite number above 0, but came {value!r}"
        for name, value in (("scale_low", low), ("scale_high", high))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0
    ]
    if not problems and (low >= high or not low <= 1 <= high):
        problems.append(
            f"scales start at 1, so `scale_low` to `scale_high` must be a range around it, but came {low:g} to {high:g}"
        )
    return problems


def hidden_problems(hidden: Any) -> list[str]:
    """Return the mistakes in the number of hidden units, one sentence each."""
    if is_whole(hidden, 1):
        return []
    return [f"`hidden` (units of the network that gives the scales) must be a whole number from 1, but came {hidden!r}"]
