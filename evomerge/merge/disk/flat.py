"""Tensors without torch: types, and memory that kernels, files and page advice accept like a torch tensor's.

A merge of whole files needs only the address, size and type of a tensor. Importing torch takes longer than merging a
small model, so `evomerge.merge.disk.plain` works with these tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class DType:
    """A floating-point type, with the same text as torch's."""

    name: str
    itemsize: int
    is_floating_point: bool = True

    def __str__(self) -> str:
        return f"torch.{self.name}"


FLOATS = {"BF16": DType("bfloat16", 2), "F16": DType("float16", 2), "F32": DType("float32", 4)}
"""Types by the name that a safetensors header gives them."""

CPU = SimpleNamespace(type="cpu")


class Flat:
    """A contiguous tensor in the CPU's memory, whose attributes have the names of torch's.

    Attributes:
        shape: the tensor's shape.
        dtype: one of `FLOATS`.
        memory: `(n_bytes,)` uint8, its bytes.
    """

    device: Any = CPU

    def __init__(self, shape: tuple[int, ...], dtype: DType, memory: np.ndarray) -> None:
        self.shape = shape
        self.dtype = dtype
        self.memory = memory
        self._address = int(memory.ctypes.data)

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: DType) -> Flat:
        """Return a new tensor of unknown values."""
        return cls(shape, dtype, np.empty(math.prod(shape) * dtype.itemsize, np.uint8))

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.memory.nbytes

    def numel(self) -> int:
        """Return the number of entries."""
        return self.memory.nbytes // self.dtype.itemsize

    def data_ptr(self) -> int:
        """Return the address of the first entry."""
        return self._address

    def is_contiguous(self) -> bool:
        """Return True."""
        return True

    def contiguous(self) -> Flat:
        """Return itself."""
        return self

    def to(self, device: Any, *, non_blocking: bool = False) -> Flat:
        """Return itself, since there is only one device."""
        return self
