"""Comparing results with several objectives: fronts, and how crowded a front is around each of its members.

Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE Transactions on
Evolutionary Computation 6:182 (2002): section III A (sorting), III B (crowding distance), VI A (constraint domination).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evomerge.record import Result


def ranks(results: Sequence[Result | None]) -> NDArray[np.int64]:
    """Return the `(n_results,)` fronts: 0 for a result that none dominates, 1 if only those of front 0 do, and so on.

    Failed candidates (None, or an objective that is not finite) form the last front.
    """
    found = np.full(len(results), -1, dtype=np.int64)
    sound = np.array([place for place, result in enumerate(results) if _is_sound(result)], dtype=np.int64)
    end = 0  # of the fronts that are full: each of their members has a smaller violation than those to come
    if len(sound):
        values = np.array([results[place].objectives for place in sound])
        violation = np.array([results[place].violation for place in sound])
        # Best first, so that a result is only dominated by earlier ones (Zhang et al., "An efficient approach to
        # nondominated sorting for evolutionary multiobjective optimization", IEEE TEC 19:201, 2015).
        fronts: list[_Front] = []
        last = -math.inf
        for place in np.lexsort((*(-values.T[::-1]), violation)):
            if violation[place] > last:
                end, fronts, last = end + len(fronts), [], violation[place]
            # Whoever is dominated by a member of a front is dominated by one of each front before it.
            front = bisect.bisect_left(range(len(fronts)), True, key=lambda k: not fronts[k].dominates(values[place]))
            if front == len(fronts):
                fronts.append(_Front(values.shape[1]))
            fronts[front].add(values[place])
            found[sound[place]] = end + front
        end += len(fronts)
    found[found < 0] = end
    return found


def _is_sound(result: Result | None) -> bool:
    return result is not None and all(map(math.isfinite, result.objectives))


class _Front:
    """The objectives of the members of a front, in an array that doubles when it is full."""

    def __init__(self, n_objectives: int) -> None:
        self._values, self._n = np.empty((4, n_objectives)), 0

    def add(self, values: NDArray[np.float64]) -> None:
        if self._n == len(self._values):
            self._values = np.concatenate([self._values, np.empty_like(self._values)])
        self._values[self._n] = values
        self._n += 1

    def dominates(self, values: NDArray[np.float64]) -> bool:
        """Return whether a member is at least as good everywhere, and better somewhere."""
        members = self._values[: self._n]
        candidates = members[(members >= values).all(axis=1)]
        return bool((candidates > values).any())


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
    seen: set[tuple[float, ...]] = set()
    twins = []
    for member in members:
        objectives = results[member].objectives
        twins += [member] if objectives in seen else []
        seen.add(objectives)
    dropped = set(twins[max(len(twins) - max(len(members) - n, 0), 0) :])
    members = [member for member in members if member not in dropped]
    values = np.array([results[place].objectives for place in members])
    while len(members) > n:
        # Of equally crowded members the last is dropped, since those given first are fitter.
        worst = len(members) - 1 - int(np.argmin(crowding(values)[::-1]))
        members.pop(worst)
        values = np.delete(values, worst, axis=0)
    return members
