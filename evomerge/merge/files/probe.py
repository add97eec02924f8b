"""Where the entries of tensors of files go in the parameters that transformers' converter makes of several of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from evomerge.merge.files.naming import Naming

LARGEST_PROBE = 1 << 28
"""Most entries of the tensors of a parameter for which this is found (8 bytes an entry, once)."""


@dataclass(frozen=True)
class EntryPlaces:
    """The places of the entries of tensors that are converted together.

    Attributes:
        of: name in the files to the index of each entry, int32 of the tensor's shape, in the parameters end to end.
        parameters: name of each parameter to the index of its first entry and that behind its last, in order.
    """

    of: Mapping[str, torch.Tensor]
    parameters: Mapping[str, tuple[int, int]]


def find_places(naming: Naming, target: str) -> EntryPlaces | None:
    """Return where the entries of the tensors in `naming.parts[target]` go.

    Transformers' own converter is given tensors of running numbers; its result shows where each entry goes.

    Returns:
        The places; None: a tensor is used twice or not at all, or there are more entries than `LARGEST_PROBE`.
    """
    shapes = naming.part_shapes(target)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = sum(sizes.values())
    if total > LARGEST_PROBE:
        return None
    numbers, begins, start = {}, {}, 0
    for name, shape in shapes.items():
        begins[name] = start
        numbers[name] = torch.arange(start, start + sizes[name], dtype=torch.int32).view(shape)
        start += sizes[name]
    made = naming.convert(target, numbers)
    if sum(tensor.numel() for tensor in made.values()) != total:
        return None
    places, offset, parameters = torch.full((total,), -1, dtype=torch.int32), 0, {}
    for name, tensor in made.items():
        end = offset + tensor.numel()
        places[tensor.reshape(-1).long()] = torch.arange(offset, end, dtype=torch.int32)
        parameters[name], offset = (offset, end), end
    of = {name: places[begins[name] : begins[name] + sizes[name]].view(shape) for name, shape in shapes.items()}
    return EntryPlaces(of, parameters)
