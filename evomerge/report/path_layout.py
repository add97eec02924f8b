"""What each step of a layer path is beside the steps before it, and in whose lane it stands in the picture."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from evomerge.recipe import Recipe
from evomerge.recipe.layer_path import Step


class Move(Enum):
    """The kind of move from one step to the next."""

    NEXT = "the parent's next layer"
    ONWARD = "onward: skips layers or changes the model"
    BACK = "back to the same or an earlier depth"


@dataclass(frozen=True)
class Placed:
    """A step in its place.

    Attributes:
        number: from 1.
        lane: index of the parent's lane.
        use: 1 where the layer occurs for the first time, 2 for the second, and so on.
    """

    step: Step
    number: int
    lane: int
    use: int


@dataclass(frozen=True)
class PathLayout:
    """A path laid out.

    Attributes:
        lanes: parent names: the first parent, then the others that lend layers or an end.
        embeddings, head: the lanes of the parents that lend the ends.
        steps: in order.
    """

    lanes: tuple[str, ...]
    steps: tuple[Placed, ...]
    embeddings: int = 0
    head: int = 0


def lay_out(recipe: Recipe) -> PathLayout:
    """Return the layout of a recipe's path."""
    path = recipe.path
    first = recipe.parents[0].name
    embeddings, head = recipe.embeddings or first, recipe.head or first
    used = {step.parent for step in path} | {embeddings, head}
    lanes = tuple(p.name for i, p in enumerate(recipe.parents) if i == 0 or p.name in used)
    uses: Counter[tuple[str, int]] = Counter()
    steps = []
    for number, step in enumerate(path, 1):
        uses[step.parent, step.layer] += 1
        steps.append(Placed(step, number, lanes.index(step.parent), uses[step.parent, step.layer]))
    return PathLayout(lanes, tuple(steps), lanes.index(embeddings), lanes.index(head))


def moves(path: Sequence[Step]) -> list[Move]:
    """Return the move from each step to the next, one fewer than there are steps.

    Depth is the layer's index in its own parent, even if parents differ in their number of layers.
    """
    return [_move(before, after) for before, after in itertools.pairwise(path)]


def move_words(before: Step, after: Step) -> str:
    """Return a move in words: "repeats the layer", "back to layer 2 of japanese", "skips 2 layers"."""
    to = "" if before.parent == after.parent else f" of {after.parent}"
    if after.layer < before.layer:
        return f"back to layer {after.layer}{to}"
    if after.layer == before.layer:
        return f"the same depth{to}" if to else "repeats the layer"
    skipped = after.layer - before.layer - 1
    if not skipped:
        return f"the next depth{to}" if to else "the next layer"
    return f"skips {skipped} layer{'s' * (skipped > 1)}" + (f" and goes on with {after.parent}" if to else "")


def _move(before: Step, after: Step) -> Move:
    if after.layer <= before.layer:
        return Move.BACK
    return Move.NEXT if (before.parent, before.layer + 1) == (after.parent, after.layer) else Move.ONWARD
