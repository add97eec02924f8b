"""What a gene is, and the contract that every space keeps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import unknown_name
from evomerge.recipe import Recipe

KINDS = ("float", "integer", "choice")


@dataclass(frozen=True)
class Gene:
    """One number that a search evolves.

    Integers and choices divide the unit interval into equal bins, so that optimizers which know only floats can move
    them too.

    Attributes:
        name: unique in its space, for example "weight.math.layers0-1.attention".
        low, high: its range, both ends included; whole numbers unless `kind` is "float".
        start: the value with which a search begins.
        log: whether equal steps of the optimizer multiply the value by equal factors rather than add equal amounts; for
            floats only.
        doc: what it does, for people.
        kind: "float"; "integer": the whole numbers from `low` to `high`; or "choice": the index of one of `choices`,
            whose order means nothing.
        choices: the words of a choice.
        when: where it counts, in words; empty: everywhere. Elsewhere it sleeps: it changes nothing there.

    Raises:
        ValueError: if the kind is unknown, or the range of an integer or a choice is not one.
    """

    name: str
    low: float
    high: float
    start: float
    log: bool = False
    doc: str = ""
    kind: str = "float"
    choices: tuple[str, ...] = ()
    when: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(unknown_name(f"kind of the gene {self.name}", self.kind, KINDS))
        if self.kind == "float":
            return
        whole = all(float(number).is_integer() for number in (self.low, self.high, self.start))
        if self.log or not whole or not self.low <= self.start <= self.high:
            raise ValueError(
                f"gene {self.name} ({self.kind}) needs whole numbers low <= start <= high and no log scale, but came "
                f"low {self.low!r}, high {self.high!r}, start {self.start!r}, log {self.log!r}"
            )
        if self.kind == "choice" and (self.low, self.high) != (0, len(self.choices) - 1):
            raise ValueError(f"gene {self.name} has {len(self.choices)} choices, but the range {self.low}..{self.high}")

    @classmethod
    def integer(cls, name: str, low: int, high: int, start: int, doc: str = "", when: str = "") -> Gene:
        """Return a gene for the whole numbers from `low` to `high`."""
        return cls(name, float(low), float(high), float(start), doc=doc, kind="integer", when=when)

    @classmethod
    def choice(cls, name: str, choices: Sequence[str], start: str, doc: str = "", when: str = "") -> Gene:
        """Return a gene for one of some words; its value is the word's index."""
        words = tuple(choices)
        return cls(
            name, 0.0, len(words) - 1.0, float(words.index(start)), doc=doc, kind="choice", choices=words, when=when
        )

    @property
    def n_values(self) -> int:
        """How many values it can take; 0 for a float."""
        return 0 if self.kind == "float" else int(self.high - self.low) + 1

    def value(self, x: float) -> float:
        """Return the value at `x` in [0, 1]; 0 gives exactly `low` and 1 exactly `high`."""
        if x <= 0.0:
            return self.low
        if x >= 1.0:
            return self.high
        if self.kind != "float":
            return self.low + min(math.floor(x * self.n_values), self.n_values - 1)
        value = self.low * (self.high / self.low) ** x if self.log else self.low + x * (self.high - self.low)
        return min(max(value, self.low), self.high)  # rounding must not leave the range

    def unit(self, value: float) -> float:
        """Return the `x` in [0, 1] for a value of the range: the inverse of `value`, up to rounding.

        For integers and choices it is the centre of the value's bin, from which `value` returns exactly the value.
        """
        if self.kind != "float":
            return (value - self.low + 0.5) / self.n_values
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
            "kind": self.kind,
            "choices": list(self.choices),
            "when": self.when,
        }


class Space(Protocol):
    """Turns points of the unit cube, which optimizers move, into genomes, and genomes into recipes.

    What callers may assume: both steps are functions of their argument alone (the same point gives an equal recipe in
    any process). In a parameter space, two genomes that differ in an awake gene give recipes with different hashes. A
    space of layer paths ignores some genes (the scale of a layer that the path leaves out), so many genomes may give
    one path; equal paths give equal recipes, so that they are scored once.
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
        """The `(n_dims,)` point of the unit cube where a search begins."""
        ...

    @property
    def kinds(self) -> tuple[int, ...]:
        """The kind of each gene: 0 for a float, n for an integer with n values, -n for a choice of n.

        Optimizers may use it. The n values are equal bins of the unit interval, in order.
        """
        ...

    @property
    def first(self) -> tuple[float, ...] | None:
        """The genome that a search must score first, since the user named it; None: there is none."""
        ...

    def genome(self, x: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
        """Return the gene values at the `(n_dims,)` point `x` of the unit cube, in the order of `genes`.

        Raises:
            ValueError: if `x` has another length or leaves the cube.
        """
        ...

    def decode(self, genome: Sequence[float]) -> Recipe:
        """Return the recipe of a genome.

        Raises:
            ValueError: if the genome has another length, or a value is outside its gene's range.
        """
        ...

    def awake(self, genome: Sequence[float]) -> tuple[bool, ...]:
        """Return for each gene whether it counts, as far as the space can tell.

        The value of a gene that sleeps changes nothing: the recipe is the same with any other. Which genes are awake
        does not depend on the values of those that sleep.

        Raises:
            ValueError: as `decode`.
        """
        ...

    def canonical(self, genome: Sequence[float]) -> tuple[float, ...]:
        """Return the genome with every gene that sleeps at its start: equal for genomes that give equal recipes."""
        ...

    def mean(self, genomes: Sequence[Sequence[float]]) -> tuple[float, ...] | None:
        """Return the mean of some genomes, the best first; None: this space has none."""
        ...

    @property
    def has_mean(self) -> bool:
        """Whether the mean of genomes makes sense."""
        ...

    def describe(self) -> list[dict[str, Any]]:
        """Return one row for each gene: name, low, high, start, log, doc, kind, choices, when."""
        ...


class GeneSpace:
    """The base of spaces with a fixed list of genes; a subclass sets the genes and decodes genomes.

    The search starts at the start of every gene.
    """

    _genes: tuple[Gene, ...]

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The genes, in the order of a genome."""
        return self._genes

    @property
    def n_dims(self) -> int:
        """Number of genes."""
        return len(self._genes)

    @property
    def kinds(self) -> tuple[int, ...]:
        """The kind of each gene: 0 for a float, n for an integer with n values, -n for a choice of n."""
        return kinds_of(self._genes)

    @property
    def start(self) -> NDArray[np.float64]:
        """The `(n_dims,)` point of the unit cube where a search begins."""
        return np.array([gene.unit(gene.start) for gene in self._genes])

    @property
    def first(self) -> tuple[float, ...] | None:
        """The genome that a search must score first; here there is none."""
        return None

    def genome(self, x: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
        """Return the gene values at the `(n_dims,)` point `x` of the unit cube.

        Raises:
            ValueError: if `x` has another length or leaves the cube.
        """
        return genome_of(self._genes, x)

    def awake(self, genome: Sequence[float]) -> tuple[bool, ...]:
        """Return for each gene whether it counts; here every gene does."""
        check_genome(self._genes, genome)
        return (True,) * len(self._genes)

    def canonical(self, genome: Sequence[float]) -> tuple[float, ...]:
        """Return the genome with every gene that sleeps at its start."""
        return tuple(
            float(value) if counts else gene.start
            for gene, value, counts in zip(self._genes, genome, self.awake(genome), strict=True)
        )

    @property
    def has_mean(self) -> bool:
        """Whether every gene is a float."""
        return not any(self.kinds)

    def mean(self, genomes: Sequence[Sequence[float]]) -> tuple[float, ...] | None:
        """Return the genome at the mean of some genomes' points; None where a gene is no float."""
        if not self.has_mean:
            return None
        points = np.array(
            [[gene.unit(value) for gene, value in zip(self._genes, one, strict=True)] for one in genomes],
            dtype=np.float64,
        )
        return self.genome(np.clip(points.mean(axis=0), 0.0, 1.0))

    def describe(self) -> list[dict[str, Any]]:
        """Return one row for each gene: name, low, high, start, log, doc, kind, choices, when."""
        return [gene.to_data() for gene in self._genes]


def kinds_of(genes: Sequence[Gene]) -> tuple[int, ...]:
    """Return the `kinds` of a space with these genes: 0: a float; n: an integer with n values; -n: a choice of n."""
    return tuple(-gene.n_values if gene.kind == "choice" else gene.n_values for gene in genes)


def name_problems(genes: Sequence[Gene]) -> list[str]:
    """Return a sentence if two genes have the same name, else nothing."""
    twice = [name for name, count in Counter(gene.name for gene in genes).items() if count > 1]
    return [f"rename a parent or a role group: several genes would have the name {twice[0]!r}"] if twice else []


def genome_of(genes: Sequence[Gene], x: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
    """Return the value of each gene at a point of the unit cube; every `Space.genome` does this.

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
    """Check that a genome has a value for each of these genes.

    Raises:
        ValueError: if it has another length, or a value is outside its gene's range.
    """
    if len(genome) != len(genes):
        raise ValueError(f"expected a genome with {len(genes)} values, one per gene, but came {len(genome)}")
    for gene, value in zip(genes, genome, strict=True):
        if not gene.low <= value <= gene.high:
            raise ValueError(f"gene {gene.name} must lie in [{gene.low:g}, {gene.high:g}], but came {value!r}")
        if gene.kind != "float" and not float(value).is_integer():
            raise ValueError(f"gene {gene.name} must be a whole number, but came {value!r}")
