"""Optimizer states as bytes that run no code when they are loaded.

A state lies in a run's database, which may come from somebody else. Unpickling it could run any code, and so could
calling a library's classes with its contents (pycma evaluates strings in its options). So a state is plain data only:
numbers, strings, lists, dictionaries and arrays. Objects of a library are never made from a state: they are made from
the optimizer's own arguments, and the state then sets their attributes (`parts`).

Its layout: one line of magic, one line of JSON that says whose state it is, and the compressed plain data.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"evomerge optimizer state 1\n"


_COMPRESSED_BELOW = 2**20
"""Largest payload that is compressed, in bytes. Larger ones are populations of thousands of dimensions, whose random
digits compress by a tenth in most of a second for each record."""


def pack(header: Mapping[str, Any], payload: bytes) -> bytes:
    """Return a state: the header (plain JSON values) says whose it is; the payload is compressed if that pays."""
    line = json.dumps(header, sort_keys=True).encode()
    return _MAGIC + line + b"\n" + zlib.compress(payload, 1 if len(payload) < _COMPRESSED_BELOW else 0)


def unpack(state: bytes, expected: Mapping[str, Any]) -> bytes:
    """Return the payload of a state whose header equals `expected`.

    Raises:
        ValueError: if it is not a state, is damaged, or belongs to another optimizer, size, library version or option.
    """
    if not state.startswith(_MAGIC):
        raise ValueError(f"this is no optimizer state of this version of evomerge (it begins {bytes(state[:16])!r})")
    line, _, body = state[len(_MAGIC) :].partition(b"\n")
    with damaged():
        header = json.loads(line)
        expected = json.loads(json.dumps(expected))
        keys = [key for key in expected if key not in header or header[key] != expected[key]]
    if keys:
        differences = "; ".join(f"{key}: the state has {header.get(key)!r}, here {expected[key]!r}" for key in keys)
        raise ValueError(f"the state belongs to another optimizer ({differences}); resume with what it was saved with")
    with damaged():
        return zlib.decompress(body)


@contextmanager
def damaged() -> Iterator[None]:
    """Turn any error from a damaged or forged state into one clear error.

    Raises:
        ValueError: if the state cannot be loaded.
    """
    try:
        yield
    except Exception as error:  # forged contents can fail anywhere, which is no bug of ours
        raise ValueError(
            f"the optimizer state is damaged and cannot be loaded ({type(error).__name__}: {error})"
        ) from error


def flatten(value: Any, parts: Mapping[str, object] | None = None) -> bytes:
    """Return `value` as bytes that `restore` reads back bit for bit.

    Args:
        value: nested plain data. Arrays that are the same object stay one object.
        parts: objects that are written by name only; the reader has its own under the same names.

    Raises:
        TypeError: if something is neither plain data nor a part.
    """
    writer = _Writer(parts or {})
    tree = json.dumps(writer.node(value), separators=(",", ":")).encode()
    return struct.pack("<Q", len(tree)) + tree + b"".join(writer.buffers)


def restore(data: bytes, parts: Mapping[str, object] | None = None) -> Any:
    """Return what `flatten` wrote.

    Raises:
        Exception: of many kinds where the data are damaged; wrap the call in `damaged`.
    """
    (length,) = struct.unpack_from("<Q", data)
    return _Reader(memoryview(data)[8 + length :], parts or {}).value(json.loads(data[8 : 8 + length]))


class _Writer:
    def __init__(self, parts: Mapping[str, object]) -> None:
        self.buffers: list[bytes] = []
        self._names = {id(part): name for name, part in parts.items()}
        self._arrays: dict[int, tuple[int, NDArray[Any]]] = {}  # holds the arrays, so that their ids stay theirs

    def node(self, value: Any) -> Any:
        """Return the JSON form: plain values as they are, other objects as [kind, ...]."""
        if value is None or type(value) in (bool, int, str):
            return value
        if id(value) in self._names:
            return ["part", self._names[id(value)]]
        if type(value) is float:
            return value if math.isfinite(value) else ["float", repr(value)]
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, np.generic):
            return ["scalar", *self._bytes(np.asarray(value))]
        if type(value) in (list, tuple, deque):
            return [type(value).__name__, [self.node(item) for item in value]]
        if type(value) is dict:
            return ["dict", [[self.node(key), self.node(item)] for key, item in value.items()]]
        raise TypeError(f"an optimizer state holds plain data only, but came {type(value).__module__}.{type(value)}")

    def _array(self, array: NDArray[Any]) -> Any:
        known = self._arrays.get(id(array))
        if known is not None:
            return ["same", known[0]]
        self._arrays[id(array)] = (len(self._arrays), array)
        return ["array", *self._bytes(array)]

    def _bytes(self, array: NDArray[Any]) -> list[Any]:
        if array.dtype.kind not in "biuf":
            raise TypeError(f"an optimizer state holds arrays of numbers only, but came dtype {array.dtype}")
        # The memory order is kept, since BLAS may round a product differently for a transposed matrix.
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        self.buffers.append(array.tobytes(order))  # type: ignore[arg-type]
        return [array.dtype.str, list(array.shape), order]


class _Reader:
    def __init__(self, buffer: memoryview, parts: Mapping[str, object]) -> None:
        self._buffer, self._parts = buffer, parts
        self._arrays: list[NDArray[Any]] = []

    def value(self, node: Any) -> Any:
        if not isinstance(node, list):
            return node
        kind, *rest = node
        if kind == "part":
            return self._parts[rest[0]]
        if kind == "float":
            return float(rest[0])
        if kind == "array":
            self._arrays.append(self._read(*rest))
            return self._arrays[-1]
        if kind == "same":
            return self._arrays[rest[0]]
        if kind == "scalar":
            return self._read(*rest)[()]
        if kind == "dict":
            return {self.value(key): self.value(item) for key, item in rest[0]}
        if kind in ("list", "tuple", "deque"):
            return {"list": list, "tuple": tuple, "deque": deque}[kind](self.value(item) for item in rest[0])
        raise ValueError(f"unknown kind {kind!r}")

    def _read(self, dtype: str, shape: list[int], order: str) -> NDArray[Any]:
        kind = np.dtype(dtype)
        if kind.kind not in "biuf" or order not in ("C", "F"):
            raise ValueError(f"unknown array {dtype!r}, {order!r}")
        size = math.prod(shape) * kind.itemsize
        flat = np.frombuffer(self._buffer[:size], kind)
        self._buffer = self._buffer[size:]
        return flat.reshape(shape, order=order).copy(order)  # type: ignore[call-overload]
