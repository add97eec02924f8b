"""The front of a search that goes on, kept result by result."""

from __future__ import annotations

from evomerge.analysis.front import hypervolume
from evomerge.record import Result


class FrontSoFar:
    """The results that no other one dominates; of equal ones the first stays."""

    def __init__(self) -> None:
        self._results: list[Result] = []
        self._volume: tuple[tuple[float, ...], float] | None = None

    def add(self, result: Result) -> None:
        """Add a result."""
        if any(one.dominates(result) or _equal(one, result) for one in self._results):
            return
        self._results = [one for one in self._results if not result.dominates(one)] + [result]
        self._volume = None

    def __len__(self) -> int:
        return len(self._results)

    @property
    def points(self) -> list[tuple[float, ...]]:
        """The objectives of each."""
        return [one.objectives for one in self._results]

    def hypervolume(self, reference: tuple[float, ...] | None) -> float | None:
        """Return what they dominate beyond a reference point (see `evomerge.analysis.front`)."""
        if reference is None:
            return None
        if self._volume is None or self._volume[0] != reference:
            self._volume = reference, hypervolume(self._results, reference)
        return self._volume[1]


def _equal(one: Result, other: Result) -> bool:
    return one.objectives == other.objectives and one.violation == other.violation
