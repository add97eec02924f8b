"""The tensors of `pytorch_model.bin`, which are read by torch's loader for weights alone, and only where permitted.

A pickle is a program. `torch.load(weights_only=True)` runs it in an interpreter that knows tensors and plain
containers, and refuses whatever else it asks for before that is imported or called. The values stay in the file, which
is mapped into memory (torch's zip format, since 1.6); an older file is read as a whole.
"""

from __future__ import annotations

import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from evomerge.errors import CheckpointError
from evomerge.merge.files.checkpoint import DTYPE_NAMES, TensorInfo
from evomerge.merge.files.weights import check_shard, few, first_file, index_of, no_pickle
from evomerge.system.text import cut, error_text

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training scripts put the tensors of a model."""


class PickleCheckpoint:
    """The tensors of a folder's pickles, mapped into memory and read one at a time.

    Attributes:
        infos: shape and type of each tensor.
        mapped: whether what `load` returns is the memory of the files: not with files of torch's old format.

    Raises:
        CheckpointError: if it is not permitted, a file is missing or damaged or asks for more than tensors, or its
            tensors are of types that cannot be merged.
    """

    def __init__(self, folder: Path, *, permitted: bool, quantised: bool = False) -> None:
        """Open a folder.

        Args:
            folder: the folder.
            permitted: whether its source says `allow_pickle`.
            quantised: whether its configuration speaks of a quantisation, which is read from safetensors alone.
        """
        first = first_file(folder)
        if not permitted:
            raise CheckpointError(no_pickle(folder, first))
        if quantised:
            raise CheckpointError(
                f"{folder} is quantised and holds its weights as a pickle; such weights are read from safetensors alone"
            )
        self.folder = folder
        self.mapped = True
        self._tensors: dict[str, torch.Tensor] = {}
        files = index_of(folder, first)
        self._paths = [first] if files is None else sorted(set(files.values()))
        for path in self._paths:
            self.mapped &= zipfile.is_zipfile(path)
            found = read_pickle(path)
            if files is not None:
                check_shard(folder, path, files, found.keys())
            self._tensors |= found
        self.infos: Mapping[str, TensorInfo] = MappingProxyType(
            {name: TensorInfo(tuple(tensor.shape), tensor.dtype) for name, tensor in self._tensors.items()}
        )

    @property
    def storage(self) -> str:
        """How its weights are stored, for people."""
        return "pickle" if len(self._paths) == 1 else f"pickles in {len(self._paths)} files"

    def load(self, name: str) -> torch.Tensor:
        """Return the values of one tensor, contiguous and without the rest of a storage that it shares."""
        return self._tensors[name].contiguous()


def read_pickle(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a pickle that holds nothing else, by name; what its format maps is mapped.

    Raises:
        CheckpointError: if it is damaged, asks for more than tensors, or holds others than dense numbers.
    """
    try:
        data: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a broken pickle makes torch raise almost anything
        asked = _asked_for(error)
        if asked is not None:
            raise CheckpointError(
                f"{path} asks for more than tensors, so it was not read, and nothing of it was run: {asked}"
            ) from error
        raise CheckpointError(
            f"{path} is no pickle that torch can read: {error_text(error, most=300)}; download it again"
        ) from error
    return _checked(path, data)


def _asked_for(error: BaseException) -> str | None:
    """Return what a pickle asked torch's loader for in vain; None: the loader failed otherwise.

    The loader's own sentence is the context of the error, which adds how to read the file without it: advice that
    nobody should get here.
    """
    inner = error.__context__
    if not isinstance(error, pickle.UnpicklingError) or not isinstance(inner, pickle.UnpicklingError):
        return None
    text = str(inner)
    if not re.search(r"global|unsupported|not allowed|can only|instantiate", text, re.IGNORECASE):
        return None
    return cut(text.split("Please use", 1)[0].strip(), 300)


def _checked(path: Path, data: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of what was read, which must be nothing but dense tensors by name.

    Raises:
        CheckpointError: with all that it holds beside them.
    """
    if not isinstance(data, Mapping) or not data:
        raise CheckpointError(f"{path} holds {type(data).__name__} in place of tensors by name")
    others = {str(name): one for name, one in data.items() if not isinstance(one, torch.Tensor)}
    if others:
        wrapper = next((name for name in _WRAPPERS if isinstance(others.get(name), Mapping)), None)
        hint = "" if wrapper is None else f" The tensors seem to be under {wrapper!r}: save that alone."
        shown = [f"{name} ({type(one).__name__})" for name, one in others.items()]
        raise CheckpointError(
            f"{path} holds {few(shown)} beside tensors, so it is no {path.name} of tensors alone.{hint}"
        )
    found = {str(name): tensor.detach() for name, tensor in data.items()}
    problems = []
    for name, tensor in found.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            problems.append(f"{name} is {'quantised' if tensor.is_quantized else tensor.layout}")
        elif str(tensor.dtype) not in DTYPE_NAMES:
            problems.append(f"{name} is of type {str(tensor.dtype).removeprefix('torch.')}")
        elif tensor.device.type == "meta" and math.prod(tensor.shape):
            problems.append(f"{name} has no values")
    if problems:
        raise CheckpointError(
            f"{path} holds tensors that cannot be merged: {few(problems)}; save the model in "
            "bfloat16, float16 or float32"
        )
    return found
