"""Checkpoints on disk: the folder of a `ModelSource`, and its tensors, memory-mapped and read one at a time."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from evomerge.errors import CheckpointError
from evomerge.recipe import ModelSource

if TYPE_CHECKING:
    import torch

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

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
DTYPE_NAMES = {f"torch.{name}": code for code, name in _DTYPES.items()}
"""A type as text to its name in a safetensors header."""

_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth", "consolidated.00.pth")
_PATTERNS = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.txt", "*.model")


@dataclass(frozen=True)
class TensorInfo:
    """What a header says about a tensor: its shape and type."""

    shape: tuple[int, ...]
    dtype: torch.dtype

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
    """The tensors of a Hugging Face folder: one `model.safetensors`, or shards with an index."""

    mapped = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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
        lost = [name for name in mine if name not in header]
        if lost:
            raise CheckpointError(f"{path} lacks {few(lost)}, which the index of {self.folder} places there")
        refused = sorted({str(header[name]["dtype"]) for name in mine} - set(_DTYPES))
        if refused:
            raise CheckpointError(
                f"{path} holds tensors of type {', '.join(refused)}, which cannot be merged: dequantise the model to "
                f"bfloat16, float16 or float32 first"
            )
        return {
            name: TensorInfo(tuple(header[name]["shape"]), getattr(torch, _DTYPES[header[name]["dtype"]]))
            for name in mine
        }

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


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a safetensors file: tensor name to dtype, shape and offsets.

    Raises:
        CheckpointError: if the file is missing, cut short (an unfinished download) or not safetensors.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise CheckpointError(f"{path} is not a whole safetensors file ({size} bytes); download it again")
            header: dict[str, Any] = json.loads(file.read(length))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: its header is not JSON ({error})") from error
    header.pop("__metadata__", None)
    end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if size < end:
        raise CheckpointError(f"{path} is cut short: its header promises {end} bytes, it has {size}; download it again")
    return header


def locate_tensors(folder: Path) -> dict[str, Path]:
    """Return the files of a folder's tensors by name, from the header or the index.

    Raises:
        CheckpointError: if there is neither, or it cannot be read.
    """
    single, index = folder / SINGLE, folder / INDEX
    if index.is_file():
        try:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            files = {str(name): folder / file for name, file in weight_map.items()}
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{index} is not an index of safetensors files: {error!r}") from error
        lost = sorted({path.name for path in files.values() if not path.is_file()})
        if lost:
            raise CheckpointError(f"{folder} lacks {few(lost)}, which {INDEX} names; download the model again")
        return files
    if single.is_file():
        return dict.fromkeys(read_header(single), single)
    pickles = [name for name in _PICKLES if (folder / name).exists()]
    if pickles:
        raise CheckpointError(
            f"{folder} holds its weights as {pickles[0]}, a pickle, which can run code when it is read. Convert it: "
            f"AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder) writes safetensors"
        )
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    there = f"; it has {few(others)}" if others else ""
    raise CheckpointError(f"{folder} has neither {SINGLE} nor {INDEX}{there}")


def locate(source: ModelSource) -> Path:
    """Return the local folder of a checkpoint; a Hub id is downloaded (weights, configuration, tokenizer only).

    Raises:
        CheckpointError: if there is no such folder, zoo model, Hub repository or revision, or no connection to the Hub.
    """
    if source.path.startswith("zoo:"):
        from evomerge.zoo import zoo_path

        try:
            return _folder(zoo_path(source.path.removeprefix("zoo:")))
        except ValueError as error:
            raise CheckpointError(str(error)) from error
    local = Path(source.path).expanduser()
    if local.exists():
        if source.revision is not None:
            raise CheckpointError(f"{source.path} is a local folder, so it has no revision {source.revision!r}")
        return _folder(local)
    if source.path.startswith((".", "/", "~")) or source.path.count("/") > 1:
        raise CheckpointError(f"there is no folder {source.path}")
    return _folder(_download(source))


def _folder(folder: Path) -> Path:
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "missing"
        raise CheckpointError(f"{folder} is {kind}; a model is a folder with config.json and safetensors")
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise CheckpointError(
                f"{folder} is a LoRA adapter, not a whole model: merge it into its base first "
                f"(peft's merge_and_unload, then save_pretrained)"
            )
        raise CheckpointError(f"{folder} has no config.json, so it is not a Hugging Face model folder")
    return folder


def _download(source: ModelSource) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    what = source.path if source.revision is None else f"{source.path} at revision {source.revision}"
    patterns = [*_PATTERNS, "*.py"] if source.trust_remote_code else list(_PATTERNS)
    try:
        return Path(
            huggingface_hub.snapshot_download(
                source.path,
                revision=source.revision,
                allow_patterns=patterns,
                ignore_patterns=["*/*", "consolidated*"],  # the same weights in other formats
            )
        )
    except errors.GatedRepoError as error:
        raise CheckpointError(f"{what} is gated: accept its terms on the Hub, then run `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"the Hub has {source.path}, but not its revision {source.revision!r}") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise CheckpointError(
            f"there is neither a folder nor a Hub model {source.path!r} (a private one needs `hf auth login`)"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"{what} is neither a local folder nor in the cache, and the Hub cannot be reached. Check the path; or "
            f"connect and run `hf download {source.path}`; or give the path of a downloaded folder"
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"cannot download {what}: {error}") from error


def few(names: list[str], limit: int = 5) -> str:
    """Return the first few of some names, joined, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
