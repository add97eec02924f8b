"""How much memory a forward pass takes: measured by running one, not guessed from the model's shape."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from evomerge.system.memory import free_bytes

__all__ = ["SHARE", "free_bytes", "peaks"]

SHARE = 0.5
"""The share of the free memory that forward passes may take; the rest is for what grows elsewhere in the meantime."""


def peaks(run: Callable[[], object], device: torch.device) -> dict[torch.device, int]:
    """Return, for each device of one kind, the most bytes that tensors made by `run` take at one time.

    The workspace of a kernel is not counted, so a share of the memory must stay free.

    Args:
        run: what to measure.
        device: the device of its inputs, which gives the kind and is always in the result.
    """
    with _Live() as live, torch.no_grad():
        run()
    return {device: 0} | {place: peak for place, peak in live.peaks.items() if place.type == device.type}


class _Live(TorchDispatchMode):
    """Adds up the storages of results by device; a storage counts until its last tensor is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.peaks: Counter[torch.device] = Counter()
        self._now: Counter[torch.device] = Counter()
        self._held: dict[int, list[int]] = {}  # address: [tensors, bytes]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # A view of an earlier tensor, or a write into one, adds nothing.
        before = {_address(one) for one in _tensors((args, kwargs or {}))}
        for tensor in _tensors(result):
            address = _address(tensor)
            if address in self._held:
                self._held[address][0] += 1
            elif address in before:
                continue
            else:
                n_bytes = tensor.untyped_storage().nbytes()
                self._held[address] = [1, n_bytes]
                device = tensor.device
                self._now[device] += n_bytes
                self.peaks[device] = max(self.peaks[device], self._now[device])
            weakref.finalize(tensor, self._drop, address, tensor.device).atexit = False
        return result

    def _drop(self, address: int, device: torch.device) -> None:
        held = self._held[address]
        held[0] -= 1
        if not held[0]:
            self._now[device] -= self._held.pop(address)[1]


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for one in value for tensor in _tensors(one)]
    return []
