"""Samples of the weights of models: the same places in each, and little to read of large ones.

The places follow from a tensor's name alone, so that they are the same for every model and on every machine.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from evomerge.errors import CheckpointError
from evomerge.merge.files.model import OpenModel
from evomerge.merge.files.pages import announce, read_normally

BLOCKS, BLOCK = 16, 2048
"""How many blocks of a tensor are read, and how many entries each has."""

MOST, MOST_COMPUTED = 512, 24
"""How many matrices are sampled at most; and if a model is a recipe, whose tensors are computed whole for it."""

Samples: TypeAlias = Mapping[str, torch.Tensor]
"""Name of a model to the sampled entries of one of its tensors, in its own type."""


@dataclass(frozen=True)
class SampledTensor:
    """One tensor that some models have.

    Attributes:
        name: of the parameter that it fills, or where several fill one, its own.
        is_matrix: whether it is a matrix of weights.
        own: model to its name in the model's files.
        rows: the model's number of rows (entries of a vector), by model; all have the same further sizes.
        row: how many entries a row has.
    """

    name: str
    is_matrix: bool
    own: Mapping[str, str]
    rows: Mapping[str, int]
    row: int

    @property
    def size(self) -> int:
        """How many entries all of the models have: some have more rows for further tokens."""
        return min(self.rows.values()) * self.row

    def places(self) -> list[tuple[int, int]]:
        """Return the blocks that are read: first entry, and the entry after the last one."""
        if self.size <= BLOCKS * BLOCK:
            return [(0, self.size)]
        words = np.frombuffer(hashlib.sha256(f"{self.name}\0{self.size}".encode()).digest(), dtype="<u2")
        stride = self.size / BLOCKS  # one block in each stretch of the tensor
        starts = [int(i * stride + float(words[i]) / 65536 * (stride - BLOCK)) for i in range(BLOCKS)]
        return [(start, start + BLOCK) for start in starts]


def choose_samples(models: Sequence[tuple[str, OpenModel]]) -> list[SampledTensor]:
    """Return the tensors to sample: all floating-point ones of common models, some of those with very many.

    Args:
        models: name and model of each; they need not have the same shapes.

    Raises:
        CheckpointError: if a model does not hold what its configuration says.
    """
    computed = any(not model.tensors.mapped for _, model in models)
    inside = any(model.has_other_parts for _, model in models)
    named = [(name, _tensors_of(name, model, inside)) for name, model in models]
    return _few(_by_shape(named), MOST_COMPUTED if computed else MOST)


@dataclass(frozen=True)
class _Own:
    """One tensor of one model: its name in the files, its shape, and its role."""

    name: str
    shape: tuple[int, ...]
    role: str

    @property
    def fit(self) -> tuple[int, ...]:
        """What is equal in comparable tensors: the shape; of embedding and head but for the rows, one for a token."""
        return (-1, *self.shape[1:]) if self.role in ("embedding", "head") and self.shape else self.shape


def _tensors_of(name: str, model: OpenModel, inside: bool) -> dict[str, _Own]:
    """Return the floating-point tensors of a model by a name that is common to all models of its class.

    Args:
        name: the model.
        model: the model, opened.
        inside: whether that is their name within the language part, which models of several classes have in common.
    """
    found = {}
    try:
        naming, places = model.naming, model.architecture.places
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error
    for own, target in naming.targets.items():
        info, place = model.tensors.infos[own], places[target]
        if info.dtype.is_floating_point and not place.copied and math.prod(info.shape) > 0:
            common = model.architecture.language.names[target] if inside else target
            found[own if target in naming.parts else common] = _Own(own, info.shape, place.role)
    return found


def _by_shape(models: Sequence[tuple[str, dict[str, _Own]]]) -> list[SampledTensor]:
    """Return the tensors to sample, in the order of the first model that has them; of each shape one."""
    found: list[SampledTensor] = []
    for common in dict.fromkeys(name for _, tensors in models for name in tensors):
        shapes: dict[tuple[int, ...], dict[str, _Own]] = {}
        for name, tensors in models:
            if common in tensors:
                shapes.setdefault(tensors[common].fit, {})[name] = tensors[common]
        for members in shapes.values():
            first = next(iter(members.values()))
            own = {name: one.name for name, one in members.items()}
            rows = {name: one.shape[0] if one.shape else 1 for name, one in members.items()}
            is_matrix = len(first.shape) > 1 and first.role != "norm"
            found.append(SampledTensor(common, is_matrix, own, rows, math.prod(first.shape[1:])))
    return found


def _few(tensors: Sequence[SampledTensor], most: int) -> list[SampledTensor]:
    """Return at most so many matrices, evenly from first to last, and the vectors between them in the same share."""
    matrices = [one for one in tensors if one.is_matrix]
    share = min(1.0, most / max(1, len(matrices)))
    kept, counts = [], {True: 0, False: 0}
    for one in tensors:
        n = counts[one.is_matrix]
        counts[one.is_matrix] += 1
        if math.floor((n + 1) * share) > math.floor(n * share):
            kept.append(one)
    return kept


def read_samples(
    models: Mapping[str, OpenModel], tensors: Sequence[SampledTensor]
) -> Iterator[tuple[SampledTensor, Samples]]:
    """Yield each tensor with the samples of the models that have it."""
    opened: list[torch.Tensor] = []
    for tensor in tensors:  # the system fetches all blocks at once, while the first are looked at
        places = tensor.places()
        for name, own in tensor.own.items():
            if models[name].tensors.mapped and len(places) > 1:
                flat = models[name].tensors.load(own).view(-1)
                announce(flat, [flat[start:stop] for start, stop in places])
                opened.append(flat)
    try:
        for tensor in tensors:
            places, samples = tensor.places(), {}
            for name, own in tensor.own.items():
                flat = models[name].tensors.load(own).reshape(-1)
                samples[name] = torch.cat([flat[start:stop] for start, stop in places])
            yield tensor, samples
    finally:
        for flat in opened:
            read_normally(flat)
