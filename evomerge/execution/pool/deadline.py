"""How long a candidate may take before its worker counts as hung."""

from __future__ import annotations

from collections.abc import Mapping

from evomerge.record import Job, Split

LEAST_SECONDS = 600.0
"""The shortest automatic limit: the first candidate of a worker also loads and compiles things once."""

TIMES = 20.0
"""The automatic limit is so many times the slowest candidate's time per item: merges that answer at length are slow."""


class Deadline:
    """The time limit for a candidate: the user's, or far more than any candidate took so far.

    Args:
        timeout: seconds; "auto": the limit follows from what candidates took; None: there is no limit.
        n_items: how many items each split has; needed for "auto".
    """

    def __init__(self, timeout: float | str | None, n_items: Mapping[Split, int] | None = None) -> None:
        self._timeout = timeout
        self._n_items = n_items or {}
        self._slowest = 0.0  # seconds for an item

    def note(self, job: Job, seconds: float) -> None:
        """Note how long a candidate took that was scored."""
        items = self._items(job)
        if items:
            self._slowest = max(self._slowest, seconds / items)

    def of(self, job: Job) -> float | None:
        """Return how many seconds a candidate may take; None: there is no limit, or none is known yet."""
        if self._timeout != "auto":
            return None if self._timeout is None else float(self._timeout)
        items = self._items(job)
        if not items or not self._slowest:
            return None
        return max(LEAST_SECONDS, TIMES * self._slowest * items)

    def _items(self, job: Job) -> int:
        if job.items is not None:
            return sum(map(len, job.items.values()))
        return self._n_items.get(job.split, 0)
