"""Which tensors of parents are those of the base: layers that fine-tuning left frozen.

Every value of a tensor must be the same. Tensors that differ are found out after a few blocks, so that what is read
grows with what is equal.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from evomerge.errors import CheckpointError
from evomerge.merge.family import Family
from evomerge.merge.files.pages import release

_FIRST = 1 << 10
"""How many entries at the start, in the middle and at the end are compared before all of them."""

_STEP = 1 << 20
"""How many entries are compared at once."""

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def equal_parents(family: Family, reference: int) -> Mapping[str, frozenset[int]]:
    """Return each merged tensor's name to the indices of the parents whose values are those of a reference.

    A parent that is itself a recipe would have to be computed, and counts as different.

    Args:
        family: the models.
        reference: index of the member with which they are compared: the base or a parent.

    Raises:
        CheckpointError: naming the parent, if a tensor cannot be read.
    """
    return {
        tensor.name: frozenset(
            index for index in range(family.n_parents) if _is_equal(family, index, reference, tensor.name)
        )
        for tensor in family.tensors
        if tensor.info.dtype.is_floating_point and not tensor.place.copied
    }


def same_values(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors of one shape hold the same values; of one type, whether the same bytes.

    Values of two types are compared in fp32, in which merges compute.
    """
    a, b = one.contiguous().view(-1), other.contiguous().view(-1)
    if a.dtype == b.dtype:  # as whole numbers, so that NaN and the sign of zero count as what they are
        a, b = (each.view(_BITS[each.element_size()]) for each in (a, b))
    n = a.numel()
    starts = (0, max(0, n // 2 - _FIRST // 2), max(0, n - _FIRST))
    return all(_same(a, b, start, start + _FIRST) for start in starts) and all(
        _same(a, b, start, start + _STEP) for start in range(0, n, _STEP)
    )


def _same(a: torch.Tensor, b: torch.Tensor, start: int, stop: int) -> bool:
    x, y = a[start:stop], b[start:stop]
    return torch.equal(x, y) if x.dtype == y.dtype else torch.equal(x.float(), y.float())


def _is_equal(family: Family, index: int, reference: int, name: str) -> bool:
    (mine, my_name), (others, other_name) = family.source(index, name), family.source(reference, name)
    if mine is others:
        return True
    if family.shared((index, reference), name):
        return True
    if not (mine.tensors.mapped and others.tensors.mapped):
        return False
    try:
        a, b = mine.tensors.load(my_name), others.tensors.load(other_name)
    except CheckpointError as error:
        raise CheckpointError(f"{family.members[index][0]}: {error}") from error
    equal = same_values(a, b)
    for tensor in (a, b):
        release(tensor)  # these pages should not count as memory before the search begins
    return equal
