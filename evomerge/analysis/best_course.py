"""The course of the best score, short enough for a line however long the search is."""

from __future__ import annotations


class BestCourse:
    """The best value so far at equally spaced candidates, between `most / 2` and `most` of them once there are many."""

    def __init__(self, most: int = 60) -> None:
        self._most, self._each, self._in_last = most, 1, 0
        self._best: list[float] = []

    def add(self, value: float) -> None:
        """Add the next candidate's value."""
        top = max(value, self._best[-1]) if self._best else value
        if not self._best or self._in_last == self._each:
            if len(self._best) == self._most:
                self._best = self._best[1::2] if self._most % 2 == 0 else self._best[::2]
                self._each *= 2
            self._best.append(top)
            self._in_last = 0
        self._best[-1] = top
        self._in_last += 1

    @property
    def values(self) -> tuple[float, ...]:
        """The best value at the end of each stretch."""
        return tuple(self._best)
