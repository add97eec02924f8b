"""What a gene is, and the contract that every space keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evomerge.recipe import Recipe


@dataclass(frozen=True)
class Gene:
    """One number that a search evolves.

    Attributes:
        name: unique in its space, for example "weight.math.layers0-1.attention".
        low, high: its range; both ends can be reached.
        start: where a search begins.
        log: whether equal steps of the optimizer multiply it by equal factors, rather than add equal amounts.
        doc: what it does, for people.
    """

    name: str
    low: float
    high: float
    start: float
    log: bool = False
    doc: str = ""

    def value(self, x: float) -> float:
        """Return the value at `x` in [0, 1]; 0 gives exactly `low` and 1 exactly `high`."""
        if x <= 0.0:
            return self.low
        if x >= 1.0:
            return self.high
        value = self.low * (self.high / self.low) ** x if self.log else self.low + x * (self.high - self.low)
        return min(max(value, self.low), self.high)  # rounding must not leave the range

    def unit(self, value: float) -> float:
        """Return the `x` in [0, 1] that stands for a value of the range; undoes `value` up to rounding."""
        if self.log:
            x = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            x = (value - self.low) / (self.high - self.low)
        return min(max(x, 0.0), 1.0)

    def to_data(self) -> dict[str, Any]:
        """Return the row that `evomerge space` prints."""
        return {
            "name": self.name,
            "low": self.low,
            "high": self.high,
            "start": self.start,
            "log": self.log,
            "doc": self.doc,
        }


class Space(Protocol):
    """Turns points of the unit cube, which optimizers move, into genomes, and genomes into recipes.

    What callers may assume: both steps are functions of their argument alone (the same point gives an equal recipe in
    any process), and two different genomes give recipes with different hashes.
    """

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The genes, in the order of a genome."""
        ...

    @property
    def n_dims(self) -> int:
        """Number of genes, at least 1."""
        ...

    @property
    def start(self) -> NDArray[np.float64]:
        """`(n_dims,)`, the point of the unit cube where a search begins."""
        ...

    def genome(self, x: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
        """Return the gene values at `(n_dims,)` `x` in the unit cube, in the order of `genes`.

        Raises:
            ValueError: if `x` has another length or leaves the cube.
        """
        ...

    def decode(self, genome: Sequence[float]) -> Recipe:
        """Return the recipe that a genome stands for.

        Raises:
            ValueError: if the genome has another length, or a value is outside its gene's range.
        """
        ...

    def describe(self) -> list[dict[str, Any]]:
        """Return one row a gene: name, low, high, start, log, doc."""
        ...


def genome_of(genes: Sequence[Gene], x: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
    """Return the value of each gene at a point of the unit cube; what `Space.genome` of every space does.

    Raises:
        ValueError: if `x` has another length or leaves the cube.
    """
    point = np.asarray(x, dtype=np.float64)
    if point.shape != (len(genes),):
        raise ValueError(f"expected a point with {len(genes)} coordinates, one per gene, but came shape {point.shape}")
    if not np.all((point >= 0.0) & (point <= 1.0)):
        raise ValueError(f"expected a point of the unit cube, but came {point.tolist()}")
    return tuple(gene.value(number) for gene, number in zip(genes, point.tolist(), strict=True))


def check_genome(genes: Sequence[Gene], genome: Sequence[float]) -> None:
    """Refuse a genome that is not one of these genes.

    Raises:
        ValueError: if it has another length, or a value is outside its gene's range.
    """
    if len(genome) != len(genes):
        raise ValueError(f"expected a genome with {len(genes)} values, one per gene, but came {len(genome)}")
    for gene, value in zip(genes, genome, strict=True):
        if not gene.low <= value <= gene.high:
            raise ValueError(f"gene {gene.name} must lie in [{gene.low:g}, {gene.high:g}], but came {value!r}")
