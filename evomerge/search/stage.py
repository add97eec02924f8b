"""A part of a search with a strategy of its own, and how far a search has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from evomerge.recipe import Recipe
from evomerge.search.budget import Spent
from evomerge.strategies.base import Strategy


@dataclass(frozen=True)
class Stage:
    """A part of a search.

    Attributes:
        until: share of the whole budget at which the stage ends; 1 for the last.
        begin: makes the strategy from the best recipe of the stages before (None in the first).
    """

    name: str
    until: float
    begin: Callable[[Recipe | None], Strategy]


@dataclass
class Progress:
    """How far a search has come.

    Attributes:
        stage: index of the present stage.
        first: number of the stage's first candidate.
        elite: number of the record with which the stage began; None in the first stage.
    """

    spent: Spent = field(default_factory=Spent)
    stage: int = 0
    first: int = 0
    elite: int | None = None

    def next_stage(self, *, first: int, elite: int) -> None:
        """Go on to the next stage, which begins with the record `elite`. No candidate is in flight between stages."""
        self.stage += 1
        self.first, self.elite = first, elite

    def to_data(self, lost: int = 0) -> dict[str, Any]:
        """Return the progress as JSON values; `from_data` reads them back.

        Args:
            lost: item evaluations that are counted now, but that the next session will count again.
        """
        spent = asdict(replace(self.spent, items=self.spent.items - lost))
        return {"spent": spent, "stage": [self.stage, self.first, self.elite]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Progress:
        """Read what `to_data` wrote; an empty mapping is the beginning of a search."""
        stage, first, elite = data.get("stage", (0, 0, None))
        return cls(Spent(**data.get("spent", {})), stage, first, elite)
