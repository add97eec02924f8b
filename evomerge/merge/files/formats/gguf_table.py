"""The table of a GGUF file: which tensors it holds, of which types, and where.

The format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) keeps shapes fastest-moving dimension first;
here they are in torch's order. A model that is split (llama.cpp's `gguf-split`: NAME-00001-of-00003.gguf) keeps its
metadata in the first file. Headers are read by the library `gguf`, which takes seconds for a large vocabulary, so what
a merge needs of them is kept (`gguf_folder.py`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files.weights import few
from evomerge.system.text import error_text

SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
"""The name of one file of a model that is split."""

VOCABULARY = "tokenizer.ggml.tokens"
"""The key of a file's tokens."""

_FLOATS = ("F32", "F16", "BF16")
_RESULTS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class GgufEntry:
    """One tensor of a GGUF file.

    Attributes:
        file: the number of its file, from 0.
        kind: its type, by ggml's name: "F16", "Q4_K" ….
        shape: its shape, in torch's order.
        offset: where its bytes begin in the file.
        n_bytes: how many there are.
    """

    file: int
    kind: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int


@dataclass(frozen=True)
class GgufTable:
    """The tensors of a GGUF model, and what is needed to name them as transformers does.

    Attributes:
        architecture: `general.architecture`.
        files: the names of its files, in order.
        entries: its tensors, by their names there.
        settings: its configuration as transformers' reader of such files finds it, which undoes permutations by it.
        names: name in the file to that in the model, as transformers' reader finds it; empty for architectures with a
            table of conversions, which is quick to ask.
        notes: sentences about what was lost on the way.
    """

    architecture: str
    files: tuple[str, ...]
    entries: Mapping[str, GgufEntry]
    settings: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def kinds(self) -> dict[str, int]:
        """How many numbers are stored as each type, most first."""
        count: dict[str, int] = {}
        for entry in self.entries.values():
            count[entry.kind] = count.get(entry.kind, 0) + math.prod(entry.shape)
        return dict(sorted(count.items(), key=lambda item: -item[1]))

    @property
    def result(self) -> str:
        """The type that a merge gives its tensors unless the recipe names one.

        bfloat16 where anything is quantised, as models mostly are before they are; else the type of most numbers.
        """
        return _RESULTS.get(next(iter(self.kinds), ""), "bfloat16") if set(self.kinds) <= set(_FLOATS) else "bfloat16"

    def to_data(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "architecture": self.architecture,
            "files": list(self.files),
            "entries": {n: [e.file, e.kind, list(e.shape), e.offset, e.n_bytes] for n, e in self.entries.items()},
            "settings": dict(self.settings),
            "names": dict(self.names),
            "notes": list(self.notes),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> GgufTable:
        """Return what `to_data` wrote."""
        entries = {
            name: GgufEntry(file, kind, tuple(shape), offset, n_bytes)
            for name, (file, kind, shape, offset, n_bytes) in data["entries"].items()
        }
        files, notes = tuple(data["files"]), tuple(data["notes"])
        return cls(data["architecture"], files, entries, data["settings"], data["names"], notes)


def gguf_library() -> ModuleType:
    """Return the library.

    Raises:
        CheckpointError: if it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise CheckpointError(
            "GGUF files are read by the package gguf, which is not installed: pip install 'evomerge[gguf]'"
        ) from error
    found: ModuleType = gguf
    return found


def gguf_files(path: Path) -> tuple[Path, ...]:
    """Return all files of a GGUF model, of which one is named.

    Raises:
        CheckpointError: if one is missing.
    """
    match = SPLIT.fullmatch(path.name)
    files = (
        (path,)
        if match is None
        else tuple(path.with_name(f"{match[1]}-{i:05}-of-{match[3]}.gguf") for i in range(1, int(match[3]) + 1))
    )
    lost = [one.name for one in files if not one.is_file()]
    if lost:
        raise CheckpointError(f"{path.parent} lacks {few(lost)}" + (f" beside {path.name}" if match else ""))
    return files


def read_table(files: tuple[Path, ...]) -> tuple[GgufTable, dict[str, Any]]:
    """Return the table of a model's files, and the metadata of the first of them by key.

    Of the vocabulary the metadata has the number of tokens alone.

    Raises:
        CheckpointError: if a file is cut short, damaged or no GGUF file, or holds types that cannot be read.
    """
    library = gguf_library()
    entries: dict[str, GgufEntry] = {}
    metadata: dict[str, Any] = {}
    for number, path in enumerate(files):
        try:
            reader = library.GGUFReader(path)
            found = {
                str(one.name): GgufEntry(
                    number,
                    one.tensor_type.name,
                    tuple(int(size) for size in reversed(one.shape.tolist())),
                    int(one.data_offset),
                    int(one.n_bytes),
                )
                for one in reader.tensors
            }
            if number == 0:
                keys = [key for key in reader.fields if not key.startswith("tokenizer.ggml.")]
                metadata = {key: _plain(reader.fields[key].contents()) for key in keys}
                if (tokens := reader.fields.get(VOCABULARY)) is not None:
                    metadata[VOCABULARY] = len(tokens.data)
        except Exception as error:  # the library raises what numpy raises on a damaged file
            raise CheckpointError(
                f"{path} is no whole GGUF file: {error_text(error, most=200)}; download it again"
            ) from error
        twice = sorted(found.keys() & entries.keys())
        if twice:
            raise CheckpointError(f"{path} holds {few(twice)} a second time; it belongs to another model")
        entries |= found
    if not isinstance(metadata.get("general.architecture"), str) or not entries:
        raise CheckpointError(f"{files[0]} names no architecture, or holds no tensors, so it is no model")
    promised = metadata.get("split.tensors.count")
    if promised is not None and int(promised) != len(entries):
        raise CheckpointError(
            f"the files of {files[0].name} hold {len(entries)} tensors in place of {promised}; download them again"
        )
    unread = sorted({entry.kind for entry in entries.values()} - set(_FLOATS) - readable_kinds(library))
    if unread:
        raise CheckpointError(
            f"{files[0]} holds tensors of type {', '.join(unread)}, which gguf "
            f"{getattr(library, '__version__', '')} cannot dequantise; take another quantisation of the model"
        )
    return GgufTable(str(metadata["general.architecture"]), tuple(path.name for path in files), entries), metadata


def readable_kinds(library: ModuleType) -> set[str]:
    """Return the types that the library dequantises, which are asked for a block each."""
    import numpy as np

    found = set()
    for kind, (_, size) in library.GGML_QUANT_SIZES.items():
        try:
            library.dequantize(np.zeros((1, size), np.uint8), kind)
        except Exception:  # it has no table of what it can do
            continue
        found.add(kind.name)
    return found


def _plain(value: Any) -> Any:
    """Return a value of the metadata as JSON has it."""
    return json.loads(json.dumps(value, default=lambda one: one.item() if hasattr(one, "item") else str(one)))
