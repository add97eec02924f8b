"""How far something long has come, as a sentence of which the next one takes the place."""

from __future__ import annotations

import time

FIRST_SECONDS, LONGEST_SECONDS = 10.0, 120.0
"""How long after one sentence the next is shown where each takes a line: at first, and at most."""


class Advance(str):
    """A sentence that holds only until the next one of its kind; it is said about twice a second."""

    __slots__ = ()


class NowAndThen:
    """Chooses the sentences that are shown where each takes a line of its own: ever fewer of them."""

    def __init__(self) -> None:
        self._due = 0.0
        self._seconds = FIRST_SECONDS

    def due(self) -> bool:
        """Return whether a sentence may be shown now; the first one of a series may be."""
        now = time.monotonic()
        if now < self._due:
            return False
        if now - self._due > 10 * LONGEST_SECONDS:  # another series
            self._seconds = FIRST_SECONDS
        self._due, self._seconds = now + self._seconds, min(1.3 * self._seconds, LONGEST_SECONDS)
        return True
