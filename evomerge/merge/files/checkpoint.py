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
from evomerge.merge.files.belongings import GENERATION, is_belonging
from evomerge.merge.files.header import read_header
from evomerge.merge.files.weights import INDEX, locate_tensors, weights_name
from evomerge.recipe import ModelSource
from evomerge.system.text import cut, error_text

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
DTYPE_NAMES = {f"torch.{name}": code for code, name in _DTYPES.items()}
"""A type as text to its name in a safetensors header."""

_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.codes", "*.py")


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
    """The tensors of a Hugging Face folder, from the files that transformers would load (see `weights.py`).

    Raises:
        CheckpointError: if a file is missing, damaged or outside of the folder, or has types that cannot be merged.
    """

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
    local = Path(source.path)
    try:
        local = local.expanduser()
        here = local.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, a folder that nobody may look into
        raise CheckpointError(f"there is no folder {cut(source.path, 200)}: {error_text(error, most=100)}") from error
    if here:
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
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{folder} holds a model and an adapter (adapter_config.json), which transformers puts on top of the "
            "weights where peft is installed: merge it in (merge_and_unload, then save_pretrained), or remove that file"
        )
    return folder


def _download(source: ModelSource) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    what = source.path if source.revision is None else f"{source.path} at revision {source.revision}"
    try:
        wanted = _wanted(source)
        folder = Path(huggingface_hub.snapshot_download(source.path, revision=source.revision, allow_patterns=wanted))
        explicit = _explicit_weights(folder)
        if explicit is not None and explicit not in wanted:
            patterns = [*wanted, explicit, *(["*.safetensors"] if explicit.endswith(".json") else [])]
            folder = Path(
                huggingface_hub.snapshot_download(source.path, revision=source.revision, allow_patterns=patterns)
            )
        return folder
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


def _wanted(source: ModelSource) -> list[str]:
    """Return the files of a Hub repository that are needed: what transformers would load, and nothing else.

    Without a connection to the Hub it is not known what the repository holds, so patterns find what is in the cache.
    """
    import huggingface_hub

    try:
        names = set(huggingface_hub.HfApi().list_repo_files(source.path, revision=source.revision))
    except Exception:  # no connection, no such repository …: the download says what it is
        return list(_PATTERNS)
    wanted = {"config.json", GENERATION, "adapter_config.json"} & names
    wanted |= {name for name in names if is_belonging(name)}
    first = weights_name(names, None)
    if first == INDEX:  # what it names is known only when it is here
        wanted |= {name for name in names if "/" not in name and _is_shard(name)}
    if first is not None:
        wanted.add(first)
    if source.trust_remote_code:
        wanted |= {name for name in names if name.endswith(".py") and "/" not in name}
    return sorted(wanted)


def _is_shard(name: str) -> bool:
    # The others are the same weights in another form.
    return name.endswith(".safetensors") and not name.startswith(("consolidated", "adapter_model"))


def _explicit_weights(folder: Path) -> str | None:
    """Return the file that config.json names as its weights, if it does and it is not there."""
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("transformers_weights")
    except (OSError, ValueError, AttributeError):
        return None
    return named if isinstance(named, str) and not (folder / named).exists() else None
