"""The genes of a search with what candidates had of them: a table for each stage, since each has its own genes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.analysis.gene_importance import GeneShare, gene_importance
from evomerge.recipe import Recipe
from evomerge.record import Record, State
from evomerge.store.traces import Trace

EDGE = 0.01
"""A value this near to an end of its gene's range, as a share of the range, lies at the edge."""


@dataclass(frozen=True)
class GeneInfo:
    """What a run noted of one gene; see `evomerge.genome.space.Gene`.

    Attributes:
        kind: "float", "integer" or "choice"; the value of a choice is the index of one of `choices`.
        log: whether it moves on a logarithmic scale.
        when: where it counts, in words; empty: everywhere.
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

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> GeneInfo:
        """Return a gene as it stands in the database."""
        return cls(
            str(data["name"]),
            float(data["low"]),
            float(data["high"]),
            float(data["start"]),
            bool(data.get("log")),
            str(data.get("doc") or ""),
            str(data.get("kind") or "float"),
            tuple(map(str, data.get("choices") or ())),
            str(data.get("when") or ""),
        )

    @property
    def n_values(self) -> int:
        """How many values it can take; 0 for a float."""
        return 0 if self.kind == "float" else int(self.high - self.low) + 1

    def unit(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values as places in its range, from 0 to 1; integers and choices as the middle of their bins."""
        if self.n_values:
            return np.asarray((values - self.low + 0.5) / self.n_values)
        if self.high <= self.low:
            return np.where(np.isfinite(values), 0.5, np.nan)
        if self.log and self.low > 0.0:
            return np.asarray(np.log(np.maximum(values, self.low) / self.low) / math.log(self.high / self.low))
        return np.asarray((values - self.low) / (self.high - self.low))

    def word(self, value: float) -> str:
        """Return a value as it is shown: a choice by its word, a number with four digits."""
        if not math.isfinite(value):
            return "asleep"
        if self.kind == "choice":
            return self.choices[int(value)] if 0 <= value < len(self.choices) else f"{value:g}"
        return f"{value:.4g}"

    def edge(self, value: float) -> str:
        """Return "low" or "high" where a value lies at that end of the range, else "".

        Only ranges of floats can be wider: choices have no ends, whole numbers are counts of layers and the like, and
        of an indicator of the data-flow space only the sign counts.
        """
        if self.kind != "float" or not math.isfinite(value) or self.name.startswith("include."):
            return ""
        place = float(self.unit(np.array([value]))[0])
        return "low" if place <= EDGE else "high" if place >= 1.0 - EDGE else ""


@dataclass(frozen=True)
class GeneTable:
    """The genes of one stage, and the candidates of that stage that have a genome of them.

    Attributes:
        stage: its number, from 0.
        name: of the stage; empty where there is one.
        records: in order of proposal.
        values: `(n_records, n_genes)`; NaN where a gene sleeps.
    """

    stage: int
    name: str
    genes: tuple[GeneInfo, ...]
    records: tuple[Record, ...]
    values: NDArray[np.float64]

    @cached_property
    def units(self) -> NDArray[np.float64]:
        """The places of the values in their genes' ranges, `(n_records, n_genes)` in [0, 1]."""
        columns = [gene.unit(self.values[:, i]) for i, gene in enumerate(self.genes)]
        return np.clip(np.stack(columns, axis=1), 0.0, 1.0) if columns else self.values

    @cached_property
    def fitness(self) -> NDArray[np.float64]:
        """The fitness of each record; NaN where it failed."""
        return np.array([math.nan if one.fitness is None else one.fitness for one in self.records], dtype=np.float64)

    @cached_property
    def importance(self) -> list[GeneShare]:
        """What each gene explains; see `evomerge.analysis.gene_importance`. Twins are left out."""
        told = self.told
        return gene_importance(self.units[told], self.fitness[told], self.kinds)

    @cached_property
    def told(self) -> NDArray[np.bool_]:
        """Which records came to an end and are no twins of others."""
        return np.array([one.same_as is None and one.state is not State.RUNNING for one in self.records], dtype=bool)

    @property
    def kinds(self) -> list[int]:
        """The kind of each gene as optimizers are told: 0: a float; n: an integer with n values; -n: a choice."""
        return [-gene.n_values if gene.kind == "choice" else gene.n_values for gene in self.genes]

    @cached_property
    def by_importance(self) -> list[int]:
        """The places of the genes, those that explain most first; of equal ones those that were awake more often."""
        found = self.importance
        shares = [0.0 if math.isnan(one.share) else one.share for one in found]
        return sorted(range(len(self.genes)), key=lambda i: (-shares[i], -found[i].n, i))

    def row(self, record: Record | None) -> int | None:
        """Return the place of a record in the table; None: it is not in it."""
        numbers = [one.number for one in self.records]
        return None if record is None or record.number not in numbers else numbers.index(record.number)


def gene_tables(
    genes: Sequence[Mapping[str, Any]],
    records: Sequence[Record],
    traces: Mapping[int, Trace],
    names: Sequence[str] = (),
) -> list[GeneTable]:
    """Return the table of each stage that has genes, in order.

    Args:
        genes: what the run noted, each with the `stage_number` of its stage.
        records: the candidates.
        traces: which say the stage of each; a candidate without one is taken for one of the first stage with as many
            genes as its genome has values.
        names: of the stages.
    """
    stages: dict[int, list[GeneInfo]] = {}
    for data in genes:
        stages.setdefault(int(data.get("stage_number") or 0), []).append(GeneInfo.from_data(data))
    of_stage: dict[int, list[Record]] = {stage: [] for stage in stages}
    for record in records:
        length = len(record.genome or ())
        trace = traces.get(record.number)
        fits = [stage for stage, own in stages.items() if len(own) == length]
        stage = trace.stage if trace is not None else fits[0] if fits else -1
        if stage in stages and len(stages[stage]) == length:
            of_stage[stage].append(record)
    found = []
    for stage, own in sorted(stages.items()):
        name = names[stage] if len(stages) > 1 and stage < len(names) else f"stage {stage + 1}"
        kept = tuple(of_stage[stage])
        values = np.array([record.genome for record in kept], dtype=np.float64).reshape(len(kept), len(own))
        _put_to_sleep(values, own, kept)
        found.append(GeneTable(stage, name if len(stages) > 1 else "", tuple(own), kept, values))
    return found


def _put_to_sleep(values: NDArray[np.float64], genes: Sequence[GeneInfo], records: Sequence[Record]) -> None:
    """Make NaN of the values of genes that sleep: recipes do not hold them."""
    sleepers = {i: gene for i, gene in enumerate(genes) if gene.when}
    if not sleepers or not records:
        return
    held = [set(_gene_names(record.recipe)) for record in records]
    known = set().union(*held)
    for i, gene in sleepers.items():
        if gene.name in known:
            asleep = np.array([gene.name not in names for names in held])
        else:  # a space with names of its own; genes that sleep stand in genomes at their start
            asleep = values[:, i] == gene.start
        values[asleep, i] = np.nan


def _gene_names(recipe: Recipe) -> Iterator[str]:
    """Yield the names that genes can have which set what a recipe says: `[method.]parameter[.parent][.group]`."""
    parents = [parent.name for parent in recipe.parents]
    for group in (None, *recipe.groups):
        method = recipe.method_of(group)
        for region in dict.fromkeys(("", "" if group is None else group.name)):
            for parameter, value in recipe.parameters_in(group).items():
                for parent in value if isinstance(value, Mapping) else ("", *parents):
                    name = ".".join(part for part in (parameter, parent, region) if part)
                    yield name
                    yield f"{method}.{name}"
    for member in recipe.members:
        if isinstance(member.source, Recipe):
            yield from _gene_names(member.source)


def shown_fitness(records: Sequence[Record]) -> NDArray[np.float64]:
    """Return the fitness of records; NaN where they failed or break a limit, since that is on no scale with others."""
    return np.array([_fitness(record) for record in records], dtype=np.float64)


def _fitness(record: Record) -> float:
    infeasible = record.result is not None and record.result.violation > 0.0
    return math.nan if record.fitness is None or infeasible else record.fitness


def even_sample(table: GeneTable, most: int) -> list[int]:
    """Return the places of at most so many records, in order: the best fifth of them, and the others at even steps."""
    n = len(table.records)
    if n <= most:
        return list(range(n))
    ranked = np.argsort(-np.nan_to_num(shown_fitness(table.records), nan=-np.inf), kind="stable")
    best = set(ranked[: most // 5].tolist())
    others = [i for i in range(n) if i not in best]
    steps = np.linspace(0, len(others) - 1, most - len(best)).round().astype(int)
    return sorted(best | {others[i] for i in steps})


def without_prefix(names: Sequence[str]) -> list[str]:
    """Return names without the parts, up to a dot, with which all of them begin: "math.head" of "weight.math.head"."""
    split = [name.split(".") for name in names]
    same = 0
    while len(names) > 1 and all(len(parts) > same + 1 and parts[same] == split[0][same] for parts in split):
        same += 1
    return [".".join(parts[same:]) for parts in split]
