"""The header of a safetensors file, checked in full before a byte of the weights is used.

The format (https://github.com/huggingface/safetensors, README): eight bytes with the header's length, the header as
JSON, and the tensors' bytes, which fill the rest of the file without holes or overlaps.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError

_MOST = 100_000_000
"""The longest header that safetensors reads, in bytes."""

BITS = {
    "BOOL": 8, "I8": 8, "U8": 8, "I16": 16, "U16": 16, "I32": 32, "U32": 32, "I64": 64, "U64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
"""The types of the format, with the size of one number in bits."""


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a safetensors file: tensor name to dtype, shape and offsets.

    Raises:
        CheckpointError: if the file is missing, cut short (an unfinished download) or not safetensors, or if its header
            contradicts itself or the file; the message names the file and what is wrong.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                kind = "empty" if size == 0 else "not a whole safetensors file"
                raise CheckpointError(f"{path} is {kind} ({size} bytes); download it again")
            if length > _MOST:
                raise CheckpointError(
                    f"{path} is not a safetensors file: its header would have {length} bytes, more than the {_MOST} "
                    "that the format allows"
                )
            text = file.read(length)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    header = _parse(path, text)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path} is damaged: its metadata are {_short(metadata)} instead of texts by name")
    ranges = sorted(_range(path, name, entry) for name, entry in header.items())
    end = 0
    before = ""
    for begin, stop, name in ranges:
        if begin != end:
            raise CheckpointError(
                f"{path} is damaged: the bytes of tensor {name!r} begin at {begin}, but {_those_before(before)} end "
                f"at {end}; download it again"
            )
        end, before = stop, name
    there = size - 8 - length
    if there < end:
        whole = 8 + length + end
        raise CheckpointError(
            f"{path} is cut short: its header promises {whole} bytes, it has {size}; download it again"
        )
    if there > end:
        raise CheckpointError(
            f"{path} is damaged: {there - end} bytes after its last tensor belong to none; download it again"
        )
    return header


def _those_before(name: str) -> str:
    return f"those of {name!r} before it" if name else "none are before it, so that they should follow those that"


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        if not text.startswith(b"{"):
            raise ValueError("it does not begin with a brace")
        header: dict[str, Any] = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: its header is not JSON ({error})") from error
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} is there twice")
    return found


def _range(path: Path, name: str, entry: Any) -> tuple[int, int, str]:
    """Return where the bytes of a tensor begin and end after the header, with its name.

    Raises:
        CheckpointError: if its entry is none, or its size is not that of its shape and type.
    """
    where = f"{path} is damaged: tensor {name!r}"
    if not isinstance(entry, dict):
        raise CheckpointError(f"{where} is described by {_short(entry)} instead of its type, shape and place")
    kind, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(kind, str) or kind not in BITS:
        raise CheckpointError(f"{where} is of type {_short(kind)}, which safetensors does not have")
    if not isinstance(shape, list) or not all(_is_count(size) for size in shape):
        raise CheckpointError(f"{where} has the shape {_short(shape)}, which is no list of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(one) for one in offsets):
        raise CheckpointError(f"{where} lies at {_short(offsets)}, which is no range of bytes")
    begin, stop = offsets
    bits = math.prod(shape) * BITS[kind]
    if (stop - begin) * 8 != bits:
        raise CheckpointError(
            f"{where} takes {stop - begin} bytes, but its shape {_short(shape)} in {kind} needs {bits / 8:g}"
        )
    return begin, stop, name


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
