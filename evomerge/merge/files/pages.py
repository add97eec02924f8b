"""Advice to the system about memory-mapped tensors: read this one soon, forget that one.

A page of a mapped file counts as memory of the process from its first use on. Without advice, a merge would end with
all its parents in memory, and the arithmetic would wait for every page.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol


class Memory(Protocol):
    """Contiguous memory, as torch's tensors describe theirs."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        ...

    def data_ptr(self) -> int:
        """Return the address of the first byte."""
        ...


# From Linux' uapi headers, since Python's mmap knows only the older constants.
_NORMAL, _RANDOM, _WILLNEED, _DONTNEED, _POPULATE_READ = 0, 1, 3, 4, 22
_SYNC_FILE_RANGE_WRITE = 2


def _function(name: str, *types: Any) -> Callable[..., int] | None:
    """Return a function of the C library, called without Python's lock; None where there is none."""
    if sys.platform != "linux":
        return None
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = types, ctypes.c_int
    found: Callable[..., int] = function
    return found


_madvise = _function("madvise", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_sync_file_range = _function("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def fetch(tensor: Memory) -> None:
    """Read the pages of a mapped tensor, and wait until they are in memory; does nothing on systems but Linux."""
    start, stop = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    start -= start % mmap.PAGESIZE
    if _madvise is not None and stop > start and _madvise(start, stop - start, _POPULATE_READ) != 0:
        _madvise(start, stop - start, _WILLNEED)  # Linux before 5.14: begins to read, and does not wait


def release(tensor: Memory) -> None:
    """Drop the whole pages of an unchanged tensor from the process; if they are used again, they are read again.

    The tensor must be the file's own memory, as safetensors maps it, or a copy that is not used any more, since other
    memory would lose its content.
    """
    release_at(tensor.data_ptr(), tensor.nbytes)


def release_at(start: int, n_bytes: int) -> None:
    """Do as `release` for a part of a mapped file, by its address."""
    stop = start + n_bytes
    start, stop = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
    if _madvise is not None and stop > start:
        _madvise(start, stop - start, _DONTNEED)


def announce(tensor: Memory, parts: Iterable[Memory]) -> None:
    """Say that only these parts of a mapped tensor will be read, and begin to read them; does not wait.

    Without this, the system reads much around each part. `read_normally` ends it.
    """
    _advise(tensor, _RANDOM)
    for part in parts:
        _advise(part, _WILLNEED)


def read_normally(tensor: Memory) -> None:
    """End what `announce` began."""
    _advise(tensor, _NORMAL)


def _advise(memory: Memory, advice: int) -> None:
    start, stop = memory.data_ptr(), memory.data_ptr() + memory.nbytes
    start -= start % mmap.PAGESIZE
    if _madvise is not None and stop > start:
        _madvise(start, stop - start, advice)


def start_writing(file: int, offset: int, n: int) -> None:
    """Begin to move written bytes of an open file to the disk, so that a later fsync finds little to do."""
    if _sync_file_range is not None:
        _sync_file_range(file, offset, n, _SYNC_FILE_RANGE_WRITE)
