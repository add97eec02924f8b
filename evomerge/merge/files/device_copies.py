"""Parents' tensors that stay on the device where candidates are made of them, so that they are copied there once."""

from __future__ import annotations

from typing import Protocol

import torch


class _Model(Protocol):
    serial: int

    def load(self, name: str) -> torch.Tensor: ...


class DeviceCopies:
    """Tensors of opened models, beside the memory-mapped files that they come from.

    The memory is taken at once, by `reserve`, so that what is free afterwards is free for good; each tensor is filled
    when it is first asked for, through `OpenModel.load` and its checks. The copies are bit for bit what the files hold.

    Attributes:
        n_bytes: of the memory that is taken.
    """

    def __init__(self) -> None:
        self.n_bytes = 0
        self._rooms: dict[tuple[int, str], torch.Tensor] = {}
        self._filled: set[tuple[int, str]] = set()

    def reserve(
        self, model: _Model, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> None:
        """Take the memory for one tensor, which is to stay on a device; twice is as good as once.

        Raises:
            RuntimeError: torch's, if the device has no room for it.
        """
        key = (model.serial, name)
        if key not in self._rooms:
            room = self._rooms[key] = torch.empty(shape, dtype=dtype, device=device)
            self.n_bytes += room.numel() * room.element_size()

    def home(self, model: _Model, name: str) -> torch.device | None:
        """Return the device that a tensor stays on; None: it does not."""
        room = self._rooms.get((model.serial, name))
        return None if room is None else room.device

    def near(self, device: torch.device, model: _Model, name: str) -> torch.Tensor:
        """Return a tensor where it stays, if that is on this device, and else as its model has it; do not change it.

        Raises:
            CheckpointError: if it cannot be read or holds NaN or Inf.
        """
        key = (model.serial, name)
        room = self._rooms.get(key)
        if room is None or room.device != device:
            return model.load(name)
        if key not in self._filled:
            room.copy_(model.load(name))
            self._filled.add(key)
        return room

    def release(self) -> None:
        """Give the memory back; from now on tensors come from their models."""
        self._rooms.clear()
        self._filled.clear()
        self.n_bytes = 0
