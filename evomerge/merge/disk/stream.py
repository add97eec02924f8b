"""Weight files written while their tensors are computed: one thread reads ahead, one writes behind.

A safetensors file is a header of known size followed by the tensors' bytes alone, and a plan knows every shape and
type. So the header is written first, and each tensor goes straight to its place: no shard is ever held in memory. The
files' bytes depend on the plan only, not on threads or timing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from evomerge.merge.disk.flat import DType, Flat
from evomerge.merge.files.checkpoint import DTYPE_NAMES
from evomerge.merge.files.pages import start_writing
from evomerge.merge.kernels.parallel import CHUNK, n_threads

if TYPE_CHECKING:
    import torch

_BLOCK = 1 << 20
"""How many bytes are written at a time; an interruption is noticed in between."""

_BEHIND = 64 << 20
"""After how many bytes the system is told to begin moving the written ones to the disk."""

_N_BLOCKS = 3

Lend = Callable[[int, DType], Flat]
"""Returns memory, on loan, for a number of entries of a type."""


@dataclass(frozen=True)
class Piece:
    """One tensor to be written.

    Attributes:
        name: the tensor's name in the file.
        shape: the tensor's shape.
        dtype: the tensor's type.
        n_inputs: how many bytes are read to compute it.
        copied: whether what `load` returns is its input's own memory.
        load: computes the tensor; called in the caller's thread.
        fetch: reads the inputs ahead; called in another thread, before `load`.
        release: frees the inputs' memory; called in any thread, when it is not needed any more.
        n_work: how many bytes `load` takes beside the inputs and the result.
        blocks: computes the tensor block by block, in place of `load`, each in memory that the given function lends. A
            block must not be used any more when the next one is asked for.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype | DType
    n_inputs: int
    copied: bool
    load: Callable[[], torch.Tensor | Flat]
    fetch: Callable[[], None]
    release: Callable[[], None]
    blocks: Callable[[Lend], Iterator[Flat]] | None = None
    n_work: int = 0

    @property
    def n_bytes(self) -> int:
        """Size in the file."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def n_made(self) -> int:
        """The memory of the result alone, in bytes."""
        return 0 if self.copied or self.blocks is not None else self.n_bytes


def block_entries() -> int:
    """Return how many entries of a piece are computed at a time: enough for all threads, few enough for their caches.

    Blocks of many MiB leave the caches before they are written, which then takes the system twice as long.
    """
    return CHUNK * n_threads()


def write_files(files: Mapping[Path, Sequence[Piece]], on_piece: Callable[[], None]) -> None:
    """Write safetensors files; reading, arithmetic and writing run at the same time.

    Memory: the pieces in work, with their inputs, never take more bytes than the largest piece with its inputs and one
    more result, which is at most (inputs + 2) times the largest tensor. Smaller pieces are read ahead, and wait to be
    written. The space of a file is reserved before its first tensor is written.

    Args:
        files: paths of the files to their pieces, in the order of computing (and of reading). In a file, wider types
            come first, so that each tensor is aligned.
        on_piece: called after each piece is computed.

    Raises:
        OSError: if a file cannot be written.
        Exception: whatever `load` or `on_piece` raises.
    """
    pieces = [piece for each in files.values() for piece in each]
    largest = max((piece.n_inputs + piece.n_made for piece in pieces), default=0)
    working = max((piece.n_inputs + piece.n_made + piece.n_work for piece in pieces), default=0)
    ledger = _Ledger(max(largest + max((piece.n_bytes for piece in pieces), default=0), working))
    fetched: SimpleQueue[Piece | None] = SimpleQueue()
    made: SimpleQueue[tuple[int, torch.Tensor | Flat] | None] = SimpleQueue()
    # The system takes more time for new memory than the arithmetic takes, so the same blocks are lent again and again.
    free: SimpleQueue[np.ndarray | None] = SimpleQueue()
    if any(piece.blocks is not None for piece in pieces):
        for _ in range(_N_BLOCKS):
            free.put(np.empty(4 * block_entries(), np.uint8))

    def lend(n: int, dtype: DType) -> Flat:
        memory = free.get()
        if memory is None:
            raise _StoppedError
        return Flat((n,), dtype, memory[: n * dtype.itemsize])

    def read() -> None:
        try:
            for piece in pieces:
                ledger.take(piece.n_inputs + piece.n_made + piece.n_work)
                piece.fetch()
                fetched.put(piece)
        finally:
            fetched.put(None)

    def write() -> None:
        try:
            for path, each in files.items():
                places, beginning = _header(each)
                size = len(beginning) + sum(piece.n_bytes for piece in each)
                with _new_file(path, beginning, size) as file:
                    for piece in each:
                        at = -1
                        while at < piece.n_bytes:
                            item = made.get()
                            if item is None:
                                return
                            at, tensor = item
                            _write(file, places[piece.name] + at, tensor, ledger)
                            at = at + tensor.nbytes
                            if piece.blocks is not None:
                                free.put(cast(Flat, tensor).memory.base)
                            del item, tensor  # before another piece takes its room
                        if piece.copied:
                            piece.release()
                        ledger.give(piece.n_inputs if piece.copied else piece.n_made)
                    os.fsync(file)
        finally:
            free.put(None)

    threads = [_Helper(work, ledger) for work in (read, write)]
    for thread in threads:
        thread.start()
    try:
        for _ in pieces:
            piece = fetched.get()
            if piece is None:
                raise _StoppedError
            ledger.check()
            if piece.blocks is None:
                made.put((0, piece.load()))
            else:
                at = 0
                for block in piece.blocks(lend):
                    n_bytes = block.nbytes  # the block belongs to the writer once it is given away
                    made.put((at, block))
                    at += n_bytes
            if not piece.copied:
                piece.release()
                ledger.give(piece.n_inputs + piece.n_work)
            on_piece()
        threads[1].join()
    except _StoppedError:
        pass  # a helper has failed; its error is raised below
    finally:
        ledger.stop()
        made.put(None)
        for thread in threads:
            thread.join()
    for thread in threads:
        if thread.error is not None:
            raise thread.error


def file_size(pieces: Sequence[Piece]) -> int:
    """Return the size in bytes of a file that holds these tensors."""
    return len(_header(pieces)[1]) + sum(piece.n_bytes for piece in pieces)


def _header(pieces: Sequence[Piece]) -> tuple[dict[str, int], bytes]:
    """Return where each tensor begins in the file, and the file's header; see the format's description.

    https://github.com/huggingface/safetensors#format
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for piece in sorted(pieces, key=lambda piece: -piece.dtype.itemsize):
        header[piece.name] = {
            "dtype": DTYPE_NAMES[str(piece.dtype)],
            "shape": list(piece.shape),
            "data_offsets": [at, at + piece.n_bytes],
        }
        at += piece.n_bytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    places = {piece.name: start + header[piece.name]["data_offsets"][0] for piece in pieces}
    return places, len(text).to_bytes(8, "little") + text


@contextlib.contextmanager
def _new_file(path: Path, beginning: bytes, size: int) -> Iterator[int]:
    """Make a file of a known size, with the mode that the user's umask allows, and yield it open."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file, 0, size)  # a disk that is too small is found now, not after hours
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV):
                    raise  # other errors mean that this file system cannot reserve space
        _put(file, memoryview(beginning), 0)
        yield file
    finally:
        os.close(file)


def _write(file: int, at: int, tensor: torch.Tensor | Flat, ledger: _Ledger) -> None:
    data = _bytes_of(tensor)
    for start in range(0, len(data), _BLOCK):
        ledger.check()
        block = data[start : start + _BLOCK]
        _put(file, block, at + start)
        end = at + start + len(block)
        if end // _BEHIND != (at + start) // _BEHIND:
            start_writing(file, (end // _BEHIND - 1) * _BEHIND, _BEHIND)


def _bytes_of(tensor: torch.Tensor | Flat) -> memoryview:
    if isinstance(tensor, Flat):
        return tensor.memory.data
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _put(file: int, data: memoryview, at: int) -> None:
    while data:
        done = os.pwrite(file, data, at)  # may be less than all
        data, at = data[done:], at + done


class _StoppedError(Exception):
    """Another thread has ended the work."""


class _Ledger:
    """Counts bytes in memory; threads wait for free bytes, and all of them end when one fails."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._stopped = False
        self._changed = threading.Condition()

    def take(self, n: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._used + n <= self._limit)
            self.check()
            self._used += n

    def give(self, n: int) -> None:
        with self._changed:
            self._used -= n
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def check(self) -> None:
        if self._stopped:
            raise _StoppedError


class _Helper(threading.Thread):
    """A thread whose error is kept and ends the other threads."""

    def __init__(self, work: Callable[[], None], ledger: _Ledger) -> None:
        super().__init__(name=f"evomerge-{work.__name__}", daemon=True)
        self.error: BaseException | None = None
        self._work = work
        self._ledger = ledger

    def run(self) -> None:
        try:
            self._work()
        except _StoppedError:
            pass
        except BaseException as error:
            self.error = error
            self._ledger.stop()
