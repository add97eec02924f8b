"""The tensors of a checkpoint on disk, memory-mapped and read one at a time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from evomerge.errors import CheckpointError
from evomerge.merge.files.header import read_header
from evomerge.merge.files.weights import locate_tensors

if TYPE_CHECKING:
    import torch

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""The name in a safetensors header to torch's type."""
SCALED_DTYPES = {**_DTYPES, "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"}
"""The same, with types that are read together with scales."""
DTYPE_NAMES = {f"torch.{name}": code for code, name in _DTYPES.items()}
"""A type as text to its name in a safetensors header."""


@dataclass(frozen=True)
class TensorInfo:
    """What a header says about a tensor.

    Attributes:
        shape: its shape.
        dtype: the type of the values that are read.
        result: the type that a merge gives it unless the recipe names one, where that is another: quantised values are
            read in float32, which holds each of them exactly, but no result is worth that many bytes. None: `dtype`.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    result: torch.dtype | None = None

    @property
    def result_dtype(self) -> torch.dtype:
        """The type that a merge gives it unless the recipe names one."""
        return self.dtype if self.result is None else self.result

    @property
    def n_bytes(self) -> int:
        """Size of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


class TensorSource(Protocol):
    """Named tensors that are read one at a time.

    What callers may assume: `infos` reads no values; `load` returns the same bytes each time. Callers must not change
    the tensor that it returns, which may be the memory of the file itself.
    """

    infos: Mapping[str, TensorInfo]
    mapped: bool
    """Whether `load` returns the memory of a file."""

    def load(self, name: str) -> torch.Tensor:
        """Return the values of one tensor, in its own dtype, on the CPU."""
        ...


class SafetensorsCheckpoint:
    """The tensors of a Hugging Face folder, from the files that transformers would load (see `weights.py`).

    Raises:
        CheckpointError: if a file is missing, damaged or outside of the folder, or has types that cannot be merged.
    """

    mapped = True

    def __init__(self, folder: Path, dtypes: Mapping[str, str] = _DTYPES) -> None:
        """Open a folder.

        Args:
            folder: the folder.
            dtypes: the types that the tensors may have: the name in a header to torch's.
        """
        self.folder = folder
        self._dtypes = dtypes
        self._files = locate_tensors(folder)
        self._open: dict[Path, Any] = {}
        self._views: dict[str, torch.Tensor] = {}
        self.infos: Mapping[str, TensorInfo] = MappingProxyType(
            {name: info for path in sorted(set(self._files.values())) for name, info in self._header(path).items()}
        )

    def load(self, name: str) -> torch.Tensor:
        """Return the values of one tensor, in its own dtype.

        Raises:
            CheckpointError: if the file cannot be read any more.
        """
        if name in self._views:
            return self._views[name]
        from safetensors import SafetensorError, safe_open

        path = self._files[name]
        try:
            if path not in self._open:  # two threads may get here; both go on with the same one
                self._open.setdefault(path, safe_open(path, framework="pt", device="cpu"))
            tensor: torch.Tensor = self._open[path].get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot read {name} from {path}: {error}") from error
        # The tensor is a view of the mapped file, so keeping it takes no memory. Asking safetensors again for each
        # candidate took a third of the time of merging a small model.
        return self._views.setdefault(name, tensor)

    def _header(self, path: Path) -> dict[str, TensorInfo]:
        import torch

        header = read_header(path)
        mine = [name for name, file in self._files.items() if file == path]
        refused = sorted({str(header[name]["dtype"]) for name in mine} - set(self._dtypes))
        if refused:
            scales = " Its config.json has no quantization_config, which would say what they are multiplied by."
            raise CheckpointError(
                f"{path} holds tensors of type {', '.join(refused)}, which cannot be merged: dequantise the model to "
                f"bfloat16, float16 or float32 first.{scales if any(one.startswith('F8') for one in refused) else ''}"
            )
        return {
            name: TensorInfo(tuple(header[name]["shape"]), getattr(torch, self._dtypes[header[name]["dtype"]]))
            for name in mine
        }

    @property
    def storage(self) -> str:
        """How its weights are stored, for people."""
        n = len(set(self._files.values()))
        return "safetensors" if n == 1 else f"safetensors in {n} files"

    @cached_property
    def content_hash(self) -> str:
        """Return the SHA-256 (hex) of `config.json` and the weight files with their names; reads every byte."""
        digest = hashlib.sha256()
        for path in (self.folder / "config.json", *sorted(set(self._files.values()))):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                for block in iter(lambda: file.read(1 << 22), b""):
                    digest.update(block)
        return digest.hexdigest()
