"""What a search tells while it runs."""

from __future__ import annotations

from typing import Protocol

from evomerge.record import Record, Score, Split


class Listener(Protocol):
    """Is told what a search does, to show it."""

    def phase(self, name: str, total: int | None, done: int) -> None:
        """A phase begins: "baselines", "search" ("search: NAME" where there are stages), "validation" or "test".

        It takes `total` candidates (None: not known), `done` of them before.
        """
        ...

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        """A candidate was scored on a split (score None: it failed)."""
        ...


class Silent:
    """A `Listener` that shows nothing."""

    def phase(self, name: str, total: int | None, done: int) -> None:
        """Show nothing."""

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        """Show nothing."""
