"""The course of a search as numbers: how good the best was after so many candidates, items and seconds."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evomerge.record import Record, Score, Split
from evomerge.report.data import RunData, best_so_far, score

CANDIDATES, ITEMS, SECONDS = "candidates", "items", "seconds"
OVER = (CANDIDATES, ITEMS, SECONDS)
"""What a search can be looked at over."""


@dataclass(frozen=True)
class SearchPoint:
    """Where a search stood when a candidate was scored.

    Attributes:
        record: the candidate.
        best: the best one until then.
        score: the score of the best on the search items.
        spent: what was spent by then: `OVER` to numbers; what is not known is missing.
    """

    record: Record
    best: Record
    score: Score
    spent: Mapping[str, float]


def course_of(run: RunData) -> Iterator[SearchPoint]:
    """Yield where a search stood after each candidate that was scored."""
    for record, best in best_so_far(run.records):
        reached = score(best, Split.SEARCH)
        if reached is not None and math.isfinite(reached.mean):
            yield SearchPoint(record, best, reached, spent_by(run, record))


def spent_by(run: RunData, record: Record) -> dict[str, float]:
    """Return what a search had spent when a candidate was recorded; see `SearchPoint.spent`."""
    trace = run.traces.get(record.number)
    found: dict[str, float | None] = {CANDIDATES: record.number + 1}
    if trace is not None:
        found |= {ITEMS: trace.items, SECONDS: trace.seconds}
    return {name: float(value) for name, value in found.items() if value is not None}


def known(spent: Sequence[Mapping[str, float]]) -> list[str]:
    """Return what a search can be looked at over: what is known of each of its candidates."""
    return [name for name in OVER if spent and all(name in one for one in spent)]


@dataclass(frozen=True)
class SeedBand:
    """Where several searches stood when each had spent so much.

    Attributes:
        spent: how much.
        mean, low, high: of their values: the mean, the least and the largest.
        n: how many searches.
    """

    spent: float
    mean: float
    low: float
    high: float
    n: int


def bands(courses: Sequence[Sequence[tuple[float, float]]], ends: Sequence[float], most: int) -> list[SeedBand]:
    """Return the band of searches that differ in the seed alone, from where all have a value to where the first ends.

    Args:
        courses: of each search what was spent when a value was reached, and the value.
        ends: how much each search spent in all.
        most: how many bands at most, at equal distances.
    """
    starts = [[spent for spent, _ in course] for course in courses]
    if not starts or not all(starts):
        return []
    first, last = max(one[0] for one in starts), min(ends)
    places = sorted({place for one in starts for place in one if first <= place <= last} | {first, last})
    if len(places) > most:
        places = [first + (last - first) * i / (most - 1) for i in range(most)]
    found = []
    for place in places:
        values = [course[bisect_right(one, place) - 1][1] for one, course in zip(starts, courses, strict=True)]
        mean = math.fsum(values) / len(values)
        found.append(SeedBand(place, mean, min(values), max(values), len(values)))
    return found
