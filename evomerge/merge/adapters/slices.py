"""Where the tensors that a base's files hold for each expert lie in the stack that its model makes of them."""

from __future__ import annotations

import math

import torch

from evomerge.merge.adapters.changes import StackPlace
from evomerge.merge.files.naming import Naming
from evomerge.merge.files.probe import find_places


def find_slices(naming: Naming, target: str, whole: tuple[int, ...]) -> dict[str, StackPlace] | None:
    """Return where the tensors of files lie in a stack that the model makes of them.

    Args:
        naming: how the tensors fill the model's parameters.
        target: the parameter that is the stack.
        whole: its shape.

    Returns:
        Name in the files to the place; None: they do not lie in plain blocks, or the stack is too large to find out.
    """
    if len(whole) != 3:
        return None
    places = find_places(naming, target)
    if places is None or dict(places.parameters) != {target: (0, math.prod(whole))}:
        return None
    found = {}
    for name, here in places.of.items():
        shape, at = here.shape, int(here.reshape(-1)[0])
        expert, inside = divmod(at, whole[1] * whole[2])
        row, column = divmod(inside, whole[2])
        stack = torch.arange(math.prod(whole), dtype=torch.int32).view(whole)[expert]
        if here.equal(stack[row : row + shape[0], column : column + shape[1]]):
            found[name] = StackPlace(expert, row, column, False)
        elif here.equal(stack[row : row + shape[1], column : column + shape[0]].T):
            found[name] = StackPlace(expert, row, column, True)
        else:
            return None
    return found
