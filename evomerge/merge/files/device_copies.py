"""Parents' tensors that stay on the device where candidates are made, so that each is copied there once."""

from __future__ import annotations

from typing import Protocol

import torch


class _Model(Protocol):
    serial: int

    def load(self, name: str) -> torch.Tensor: ...


class DeviceCopies:
    """Copies of opened models' tensors on devices, beside the memory-mapped files from which they come.

    `reserve` takes the memory at once, so that the rest stays free for others. Each tensor is filled when it is first
    needed, through `OpenModel.load` and its checks. The copies equal the files bit for bit.

    Attributes:
        n_bytes: how much memory is taken.
    """

    def __init__(self) -> None:
        self.n_bytes = 0
        self._rooms: dict[tuple[int, str], torch.Tensor] = {}
        self._filled: set[tuple[int, str]] = set()

    def reserve(
        self, model: _Model, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> None:
        """Take the memory for one tensor that is to stay on a device; a second call for it does nothing.

        Raises:
            RuntimeError: torch's, if the device has no room for it.
        """
        key = (model.serial, name)
        if key not in self._rooms:
            room = self._rooms[key] = torch.empty(shape, dtype=dtype, device=device)
            self.n_bytes += room.numel() * room.element_size()

    def home(self, model: _Model, name: str) -> torch.device | None:
        """Return the device on which a tensor stays; None: on none."""
        room = self._rooms.get((model.serial, name))
        return None if room is None else room.device

    def near(self, device: torch.device, model: _Model, name: str) -> torch.Tensor:
        """Return the copy of a tensor if it stays on this device, else the model's tensor; do not change it.

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
        """Free the memory; from now on tensors come from their models."""
        self._rooms.clear()
        self._filled.clear()
        self.n_bytes = 0
