"""A part of a search with a space and an optimizer of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evomerge.genome.space import Space
from evomerge.optimizers.base import Optimizer
from evomerge.recipe import Recipe


@dataclass(frozen=True)
class Stage:
    """A part of a search with a space and an optimizer of its own.

    Attributes:
        until: share of the whole budget at which it ends; 1 for the last.
        begin: makes the space and the optimizer from the best recipe of the stages before (None in the first).
    """

    name: str
    until: float
    begin: Callable[[Recipe | None], tuple[Space, Optimizer]]
