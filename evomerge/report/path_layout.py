"""Where each step of a layer path stands in its picture: rows of columns, and a lane per parent in each row."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from evomerge.recipe import Recipe
from evomerge.recipe.layer_path import Step

STEPS_PER_ROW = 20
"""Most columns of a row; with more, numbers would be too small to read in a picture that is scaled to a page."""


class Move(Enum):
    """The kind of move from one step to the next."""

    NEXT = "the parent's next layer"
    ONWARD = "onward: skips layers or changes the model"
    BACK = "back to the same or an earlier depth"


@dataclass(frozen=True)
class Placed:
    """A step in its place.

    Attributes:
        row, column: both from 0; the first column of a row is free for the line that enters the row.
        lane: index of the parent's lane.
        use: 1 where the layer occurs for the first time, 2 for the second, and so on.
    """

    step: Step
    row: int
    column: int
    lane: int
    use: int


@dataclass(frozen=True)
class PathLayout:
    """A path laid out.

    Attributes:
        lanes: parent names from top to bottom: the first parent, then the others that lend layers or an end.
        embeddings, head: the lanes of the parents that lend the ends.
        steps: in order.
        n_rows, n_columns: how many rows, and steps in the longest one.
    """

    lanes: tuple[str, ...]
    steps: tuple[Placed, ...]
    n_rows: int
    n_columns: int
    embeddings: int = 0
    head: int = 0


def lay_out(recipe: Recipe) -> PathLayout:
    """Return the layout of a recipe's path, with rows whose lengths differ by at most one."""
    path = recipe.path
    first = recipe.parents[0].name
    embeddings, head = recipe.embeddings or first, recipe.head or first
    used = {step.parent for step in path} | {embeddings, head}
    lanes = tuple(p.name for i, p in enumerate(recipe.parents) if i == 0 or p.name in used)
    n_rows = math.ceil(len(path) / STEPS_PER_ROW)
    lengths = [len(path) // n_rows + (row < len(path) % n_rows) for row in range(n_rows)]
    places = [(row, column) for row, length in enumerate(lengths) for column in range(length)]
    uses: Counter[tuple[str, int]] = Counter()
    steps = []
    for step, (row, column) in zip(path, places, strict=True):
        uses[step.parent, step.layer] += 1
        steps.append(Placed(step, row, column + 1, lanes.index(step.parent), uses[step.parent, step.layer]))
    return PathLayout(lanes, tuple(steps), n_rows, max(lengths), lanes.index(embeddings), lanes.index(head))


def moves(path: Sequence[Step]) -> list[Move]:
    """Return the move from each step to the next, one fewer than there are steps.

    Depth is the layer's index in its own parent, even if parents differ in their number of layers.
    """
    return [_move(before, after) for before, after in itertools.pairwise(path)]


def _move(before: Step, after: Step) -> Move:
    if after.layer <= before.layer:
        return Move.BACK
    return Move.NEXT if (before.parent, before.layer + 1) == (after.parent, after.layer) else Move.ONWARD
