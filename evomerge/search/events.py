"""What a search reports while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from evomerge.record import Record, Score, Split


class Listener(Protocol):
    """Receives what a search does, to show it."""

    def phase(self, name: str, total: int | None, done: int) -> None:
        """Take note that a phase begins.

        Args:
            name: "baselines", "search" ("search: NAME" where there are stages), "validation" or "test".
            total: how many candidates the phase scores; None: not known.
            done: how many of them were scored in earlier sessions.
        """
        ...

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        """Take note that a candidate was scored on a split; score None: it failed.

        The record's `result` is that on the search items; of a finalist on the validation items it is that on those.
        """
        ...


@runtime_checkable
class Attached(Listener, Protocol):
    """A `Listener` that reads the run itself, beside the search that writes it."""

    def attach(self, folder: Path) -> None:
        """Take note of the run's folder, before the first phase."""
        ...


class Silent:
    """A `Listener` that shows nothing."""

    def phase(self, name: str, total: int | None, done: int) -> None:
        """Show nothing."""

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        """Show nothing."""
