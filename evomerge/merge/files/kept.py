"""Tensors that are computed as they are read, kept in memory for the next candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evomerge.merge.files.checkpoint import TensorInfo, TensorSource

if TYPE_CHECKING:
    import torch


class KeptTensors:
    """A checkpoint's tensors, of which as many are kept as fit into a budget that several checkpoints share.

    A search reads each tensor of its parents for every candidate; dequantising them anew takes longer than the merge.

    Attributes:
        infos: those of the checkpoint.
    """

    mapped = False

    def __init__(self, tensors: TensorSource, room: Room) -> None:
        """Keep nothing yet.

        Args:
            tensors: the checkpoint's.
            room: where there is room for more.
        """
        self.infos: Mapping[str, TensorInfo] = tensors.infos
        self._tensors, self._room = tensors, room
        self._kept: dict[str, torch.Tensor] = {}

    @property
    def storage(self) -> str | None:
        """How its weights are stored, for people."""
        return getattr(self._tensors, "storage", None)

    def reads(self, name: str) -> Sequence[tuple[TensorSource, str]]:
        """See `evomerge.merge.files.stored`."""
        return ((self._tensors, name),)

    def load(self, name: str) -> torch.Tensor:
        """Return the values of one tensor; do not change it.

        Raises:
            CheckpointError: if the file cannot be read any more.
        """
        if name in self._kept:
            return self._kept[name]
        made = self._tensors.load(name)
        if self._room.take(made.nbytes):
            self._kept[name] = made
        return made


class Room:
    """How much memory may still be taken, in bytes."""

    def __init__(self, n_bytes: int) -> None:
        self.free = n_bytes

    def take(self, n_bytes: int) -> bool:
        """Take memory, if there is so much; return whether there was."""
        fits = n_bytes <= self.free
        self.free -= n_bytes if fits else 0
        return fits
