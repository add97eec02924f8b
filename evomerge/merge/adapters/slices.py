"""Where the tensors that a base's files hold for each expert lie in the stack that its model makes of them."""

from __future__ import annotations

import math

import torch

from evomerge.merge.adapters.changes import StackPlace
from evomerge.merge.files.naming import Naming

LARGEST_PROBE = 1 << 28
"""Largest stack, in entries, for which this is found (8 bytes an entry, once)."""


def find_slices(naming: Naming, target: str, whole: tuple[int, ...]) -> dict[str, StackPlace] | None:
    """Return where the tensors of files lie in a stack that the model makes of them.

    Transformers' own converter is given tensors of running numbers; its result shows where each entry goes.

    Args:
        naming: how the tensors fill the model's parameters.
        target: the parameter that is the stack.
        whole: its shape.

    Returns:
        Name in the files to the place; None: they do not lie in plain blocks, or the stack is too large to find out.
    """
    shapes, begins, start = naming.part_shapes(target), {}, 0
    for name, shape in shapes.items():
        begins[name], start = start, start + math.prod(shape)
    if start > LARGEST_PROBE or start != math.prod(whole) or len(whole) != 3:
        return None
    numbers = {
        name: torch.arange(begins[name], begins[name] + math.prod(shape), dtype=torch.int32).view(shape)
        for name, shape in shapes.items()
    }
    made = naming.convert(target, numbers)[target].reshape(-1).long()
    places = torch.empty(start, dtype=torch.int32)
    places[made] = torch.arange(start, dtype=torch.int32)
    found = {}
    for name, shape in shapes.items():
        at = int(places[begins[name]])
        expert, inside = divmod(at, whole[1] * whole[2])
        row, column = divmod(inside, whole[2])
        stack = torch.arange(start, dtype=torch.int32).view(whole)[expert]
        here = places[begins[name] : begins[name] + math.prod(shape)].view(shape)
        if here.equal(stack[row : row + shape[0], column : column + shape[1]]):
            found[name] = StackPlace(expert, row, column, False)
        elif here.equal(stack[row : row + shape[1], column : column + shape[0]].T):
            found[name] = StackPlace(expert, row, column, True)
        else:
            return None
    return found
