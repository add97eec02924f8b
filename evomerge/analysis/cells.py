"""The best candidate in each cell of two measures, which a map of elites shows (Mouret and Clune, arXiv:1504.04909).

Cells are made afterwards, of equal width between the least and the largest value that was seen, so a map can be drawn
of any search, whether or not its strategy kept one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evomerge.record import Record


@dataclass(frozen=True)
class MapCell:
    """A cell with a candidate in it.

    Attributes:
        x, y: its place, from 0.
        best: the candidate with the largest fitness, the oldest of equal ones.
        n: how many candidates lie in it.
    """

    x: int
    y: int
    best: Record
    n: int


def edges_of(values: Iterable[float], bins: int) -> list[float]:
    """Return the edges of at most `bins` bins of equal width, ascending; of whole numbers of few values, around each.

    Args:
        values: finite numbers, at least one.
        bins: how many at most.
    """
    known = sorted(set(values))
    low, high = known[0], known[-1]
    if low == high:
        return [low - 0.5, high + 0.5]
    if all(value == math.floor(value) for value in known) and high - low < bins:
        return [low - 0.5 + step for step in range(int(high - low) + 2)]
    return [low + (high - low) * step / bins for step in range(bins + 1)]


def cell_of(value: float, edges: Sequence[float]) -> int:
    """Return in which bin a value lies; the last one holds its upper edge."""
    place = int((value - edges[0]) / (edges[-1] - edges[0]) * (len(edges) - 1))
    return min(max(place, 0), len(edges) - 2)


def best_by_cell(
    records: Sequence[Record], x: str, y: str, x_edges: Sequence[float], y_edges: Sequence[float]
) -> list[MapCell]:
    """Return the cells of two measures that hold candidates with both, by their place.

    Args:
        records: candidates; those without a fitness are left out.
        x, y: names of measures in their results.
        x_edges, y_edges: the bins of each.
    """
    found: dict[tuple[int, int], MapCell] = {}
    for record in records:
        measures = {} if record.result is None else record.result.measures
        values = (measures.get(x, math.nan), measures.get(y, math.nan))
        if record.fitness is None or not all(map(math.isfinite, values)):
            continue
        place = (cell_of(values[0], x_edges), cell_of(values[1], y_edges))
        before = found.get(place)
        best = record if before is None or _above(record, before.best) else before.best
        found[place] = MapCell(*place, best, 1 if before is None else before.n + 1)
    return [found[place] for place in sorted(found)]


def _above(one: Record, other: Record) -> bool:
    return other.fitness is None or (one.fitness is not None and one.fitness > other.fitness)
