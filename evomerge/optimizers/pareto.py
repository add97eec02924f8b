"""Comparing results with several objectives: fronts, and how crowded a front is around each of its members.

Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE Transactions on
Evolutionary Computation 6:182 (2002): section III A (sorting), III B (crowding distance), VI A (constraint domination).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evomerge.record import Result


def ranks(results: Sequence[Result | None]) -> NDArray[np.int64]:
    """Return the `(n_results,)` fronts: 0 for a result that none dominates, 1 if only those of front 0 do, and so on.

    Failed candidates (None, or an objective that is not finite) form the last front.
    """
    n = len(results)
    failed = [result is None or not all(map(math.isfinite, result.objectives)) for result in results]
    better = np.zeros((n, n), dtype=bool)  # better[i, j]: i dominates j
    sound = [place for place in range(n) if not failed[place]]
    if sound:
        values = np.array([results[place].objectives for place in sound])  # type: ignore[union-attr]
        violation = np.array([results[place].violation for place in sound])  # type: ignore[union-attr]
        # (n_results, n_results): among equal violations at least as good everywhere and better somewhere, else the
        # smaller violation
        no_worse = (values[:, None, :] >= values[None, :, :]).all(axis=2)
        somewhere = (values[:, None, :] > values[None, :, :]).any(axis=2)
        alike = violation[:, None] == violation[None, :]
        better[np.ix_(sound, sound)] = (alike & no_worse & somewhere) | (violation[:, None] < violation[None, :])
    found = np.full(n, -1, dtype=np.int64)
    left = np.array([not one for one in failed])
    front = 0
    while left.any():
        members = left & ~(better & left[:, None]).any(axis=0)
        found[members] = front
        left &= ~members
        front += 1
    found[np.array(failed, dtype=bool)] = front
    return found


def crowding(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the `(n_members,)` crowding distances in a front; infinite for the ends in any objective.

    Args:
        values: `(n_members, n_objectives)`, finite.
    """
    n, n_objectives = values.shape
    distance = np.zeros(n)
    for k in range(n_objectives):
        order = np.argsort(values[:, k], kind="stable")
        column = values[order, k]
        width = column[-1] - column[0]
        distance[order[0]] = distance[order[-1]] = math.inf
        if width > 0.0 and n > 2:
            distance[order[1:-1]] += (column[2:] - column[:-2]) / width
    return distance


def best_front(results: Sequence[Result], n: int) -> list[int]:
    """Return the positions of the best `n` results: front by front, with the last front thinned where it is crowded.

    Members of a front come in the order in which they were given.
    """
    front_of = ranks(results)
    chosen: list[int] = []
    for front in range(int(front_of.max(initial=-1)) + 1):
        members = np.flatnonzero(front_of == front).tolist()
        room = n - len(chosen)
        if room <= 0:
            break
        chosen += _thinned(members, results, room)
    return chosen


def _thinned(members: list[int], results: Sequence[Result], n: int) -> list[int]:
    """Drop the most crowded member until `n` are left; of equal results all but the first go before any other."""
    members = list(members)
    while len(members) > n:
        values = np.array([results[place].objectives for place in members])
        seen: set[tuple[float, ...]] = set()
        twins = []
        for place, row in enumerate(values.tolist()):
            twins += [place] if tuple(row) in seen else []
            seen.add(tuple(row))
        if twins:
            members.pop(twins[-1])
            continue
        distance = crowding(values)
        # Of equally crowded members the last is dropped, since those given first are fitter.
        members.pop(len(members) - 1 - int(np.argmin(distance[::-1])))
    return members
