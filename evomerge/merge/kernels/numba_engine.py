"""The compiled kernels on tensors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from evomerge.merge.kernels import lanes, native, native_product, native_sparse, parallel
from evomerge.merge.kernels.parallel import over_chunks
from evomerge.merge.kernels.program import Band, BitRange, Clip, Cut, Drop, Program, Ranked, Survey

if TYPE_CHECKING:
    import torch


class _Codes(dict[str, int]):
    """The kernels' numbers for types; a type counts by its text, so that torch's and others of the same text work."""

    def __getitem__(self, dtype: object) -> int:
        return super().__getitem__(str(dtype))


_CODES = _Codes({
    "torch.bfloat16": native.BF16, "torch.float16": native.F16, "torch.float32": native.F32, "torch.float64": native.F64
})  # fmt: skip

_MODULES = (lanes, native, native_product, native_sparse)
_MADE_OF = b"".join(Path(str(module.__file__)).read_bytes() for module in _MODULES)
_VERSION = hashlib.sha256(_MADE_OF).hexdigest()[:16]
"""The name of the folder of compiled kernels: numba itself notices changes only in the file of a cached function."""


def _compile(function: Any, signature: str) -> Any:
    """Compile a kernel, or load what an earlier process compiled for this processor."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    before = numba.config.CACHE_DIR
    root = Path(before or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evomerge" / "kernels")
    numba.config.CACHE_DIR = str(root / _VERSION)
    try:
        return numba.njit(signature, cache=True, **options)(function)
    except (OSError, RuntimeError):  # there is no place to write, as in a read-only container
        return numba.njit(signature, **options)(function)
    finally:
        numba.config.CACHE_DIR = before


_SHARES = 4
"""How many chunks a thread gets unless they would be small, since calling a kernel with many arguments takes time."""


class _TooMany(Exception):
    """A table is full."""


def _at(tensor: torch.Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), _CODES[tensor.dtype]


def _with_more(program: Program, head: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments of `native_sparse.sparse` for a program, from those of `native.run`; it needs a base."""
    addresses, codes, weight, mask, threshold, limit, seed, rescale, base, base_code, scale, disjoint, *rest = head
    n = len(weight)
    upper, upper_limit, drawn, ranks = (np.zeros(n, dtype) for dtype in (np.float32, np.int64, np.bool_, np.int64))
    tables = [each for each in program.masks if isinstance(each, Ranked)]
    size = len(tables[0].below) if tables else 1
    below, factor = np.zeros((n, size), np.int32), np.zeros((n, size), np.float32)
    for k, each in enumerate(program.masks):
        if isinstance(each, Band):
            upper[k], upper_limit[k] = each.removed.threshold, each.removed.limit
        elif isinstance(each, Ranked):
            drawn[k], ranks[k] = each.seed is not None, each.ranks.data_ptr()
            if each.seed is None:
                kept = each.below.nonzero()[0]
                limit[k], upper_limit[k] = (kept[0], kept[-1] + 1) if len(kept) else (0, 0)
            else:
                below[k], factor[k] = each.below, each.rescale
    votes = np.array(program.votes, np.float32) if program.votes else weight
    alone = np.array(program.alone, np.float32) if program.alone else np.ones(n, np.float32)
    wide = bool(tables) and tables[0].ranks.element_size() == 4
    how = native_sparse.SUM if not disjoint else native_sparse.ELECT if program.elect else native_sparse.POOL
    return (
        addresses, codes, weight, votes, alone, mask, threshold, limit, upper, upper_limit, seed, drawn, rescale, ranks,
        wide, below, factor, base, base_code, scale, how, *rest,
    )  # fmt: skip


class NumbaEngine:
    """Kernels compiled by numba, on `torch.get_num_threads()` threads; each is compiled when it is first needed."""

    def __init__(self) -> None:
        self._buffers = local()

    @cached_property
    def _run(self) -> Any:
        return _compile(native.run, native.RUN)

    @cached_property
    def _masked(self) -> Any:
        return _compile(native.masked, native.MASKED)

    @cached_property
    def _sparse(self) -> Any:
        return _compile(native_sparse.sparse, native_sparse.SPARSE)

    @cached_property
    def _product(self) -> Any:
        return _compile(native_product.product, native_product.PRODUCT)

    @cached_property
    def _added(self) -> Any:
        return _compile(native_product.added, native_product.ADDED)

    @cached_property
    def _finite(self) -> Any:
        return _compile(native.finite, native.FINITE)

    @cached_property
    def _dots(self) -> Any:
        return _compile(native.dots, native.DOTS)

    @cached_property
    def _tally(self) -> Any:
        return _compile(native.tally, native.TALLY)

    @cached_property
    def _histogram(self) -> Any:
        return _compile(native.histogram, native.HISTOGRAM)

    @cached_property
    def _take(self) -> Any:
        return _compile(native.take, native.TAKE)

    @cached_property
    def _survey(self) -> Any:
        return _compile(native.survey, native.SURVEY)

    @cached_property
    def _nth(self) -> Any:
        return _compile(native.nth, native.NTH)

    def run(
        self,
        program: Program,
        base: torch.Tensor | None,
        parents: Sequence[torch.Tensor],
        out: torch.Tensor,
        *,
        roundings: Sequence[torch.dtype] = (),
        start: int = 0,
    ) -> int:
        """See `KernelEngine`; `out` gets the entries from `start` on, which is a multiple of `native.BLOCK`."""
        n = len(parents)
        mask, threshold, limit = np.zeros(n, np.int64), np.zeros(n, np.float32), np.zeros(n, np.int64)
        seed, rescale = np.zeros(n, np.uint64), np.ones(n, np.float32)
        for k, each in enumerate(program.masks):
            if isinstance(each, (Cut, Band)):
                kept = each if isinstance(each, Cut) else each.kept
                mask[k] = native.CUT if kept is each else native_sparse.BAND
                threshold[k], limit[k] = kept.threshold, kept.limit
            elif isinstance(each, Clip):
                mask[k], threshold[k] = native.CLIP, each.most
            elif isinstance(each, Drop) and each.below < 65536:
                mask[k], limit[k] = native.DROP, each.below - 1
                seed[k], rescale[k] = each.seed, each.rescale
            elif isinstance(each, Ranked):
                mask[k], seed[k] = native_sparse.RANKED, each.seed or 0
        steps = [_CODES[dtype] for dtype in roundings]
        while steps and steps[-1] == _CODES[out.dtype]:  # storing rounds to it anyway
            steps.pop()
        first, second = (*steps, native.F32, native.F32)[:2]
        head = (
            np.array([parent.data_ptr() for parent in parents], np.int64),
            np.array([_CODES[parent.dtype] for parent in parents], np.int64),
            np.array(program.weight, np.float32), mask, threshold, limit, seed, rescale,
            *((0, native.F32) if base is None else _at(base)),
            program.scale, program.disjoint, program.by_count, program.normalize,
            out.data_ptr() - start * out.dtype.itemsize, _CODES[out.dtype], first, second,
        )  # fmt: skip

        kernel = self._run if program.simple else self._sparse
        if not program.simple:
            head = _with_more(program, head)

        def general(first: int, last: int) -> int:
            return int(kernel(*head, first, last))

        tensors = [out, *parents, *([] if base is None else [base])]
        fused = (
            program.simple
            and base is not None
            and 2 <= n <= (4 if program.disjoint else 3)
            and len(kinds := set(mask.tolist()) - {native.NO_MASK}) < 2
            and native.CLIP not in kinds
            and not steps
            and all(_CODES[tensor.dtype] == native.BF16 for tensor in tensors)
        )

        # What adapters end with: their product, in fp32, and the model below them.
        added = (
            program.simple and base is None and n == 2 and program.weight[1] == 1.0
            and [_CODES[tensor.dtype] for tensor in parents] == [native.BF16, native.F32]
            and [*steps, _CODES[out.dtype]] in ([native.BF16], [native.BF16, native.F32])
        )  # fmt: skip

        def work(first: int, last: int) -> int:
            if added:
                (origin, made), weight = head[0].tolist(), head[2][0]
                done = self._added(origin, weight, made, head[14], bool(steps), first, last)
                return general(first + done // native.BLOCK * native.BLOCK, last) if first + done < last else 0
            if not fused:
                return general(first, last)
            left = np.empty(-(-(last - first) // native.BLOCK), np.int64)
            weight, base_at, switches, out_at = head[2], head[8], head[11:14], head[14]
            count = self._masked(
                head[0], weight, mask, threshold, limit, seed, rescale, base_at, program.scale, *switches, out_at,
                first, last, left,
            )  # fmt: skip
            begins = left[:count]
            runs = np.split(begins, np.nonzero(np.diff(begins) != native.BLOCK)[0] + 1) if count else []
            return max((general(int(run[0]), min(last, int(run[-1]) + native.BLOCK)) for run in runs), default=0)

        share = out.numel() // (_SHARES * parallel.n_threads()) // parallel.CHUNK * parallel.CHUNK
        size = max(parallel.CHUNK, share)
        return max(over_chunks(start + out.numel(), work, start=start, size=size), default=0)

    def product(self, left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
        """See `KernelEngine`."""
        arrays, kernel = (left.numpy(), right.numpy(), out.numpy()), self._product
        rows = max(4, parallel.CHUNK // max(1, out.shape[1]) // 4 * 4)  # four are computed at a time
        over_chunks(out.shape[0], lambda start, stop: kernel(*arrays, start, stop), size=rows)

    def finite(self, tensor: torch.Tensor) -> bool:
        """See `KernelEngine`."""
        if _CODES[tensor.dtype] == native.F64:  # a large number is finite, although it is not as fp32
            return bool(tensor.isfinite().all())
        kernel = self._finite
        return not any(over_chunks(tensor.numel(), lambda start, stop: kernel(*_at(tensor), start, stop)))

    def dots(self, a: torch.Tensor, b: torch.Tensor, base: torch.Tensor | None = None) -> tuple[float, float, float]:
        """See `KernelEngine`."""
        n = a.numel()
        sums, kernel = np.zeros((-(-n // native.SEGMENT), 3)), self._dots
        inputs = (*_at(a), *_at(b), *((0, native.F32) if base is None else _at(base)))
        over_chunks(n, lambda start, stop: kernel(*inputs, start, stop, sums), size=4 * native.SEGMENT)
        aa, ab, bb = (sum(column) for column in sums.T.tolist())
        return float(aa), float(ab), float(bb)

    def tally(self, base: torch.Tensor, parent: torch.Tensor, most: int) -> tuple[np.ndarray, np.ndarray] | None:
        """See `KernelEngine`."""
        kernel, rows = self._tally, 1 << (2 * most - 1).bit_length()  # half of them stay free, so look-ups are short
        tables: list[tuple[np.ndarray, np.ndarray]] = []  # one for each thread
        free: list[tuple[np.ndarray, np.ndarray]] = []

        def work(start: int, stop: int) -> bool:
            try:
                mine = free.pop()
            except IndexError:
                mine = np.zeros((rows, 2), np.uint32), np.zeros(1, np.int64)
                tables.append(mine)
            fits = bool(kernel(*_at(base), *_at(parent), start, stop, *mine, most))
            if not fits:
                raise _TooMany
            free.append(mine)
            return fits

        try:
            over_chunks(base.numel(), work)
        except _TooMany:
            return None
        taken = [table[table[:, 0] != 0] for table, _ in tables]
        keys = np.concatenate([np.zeros(0, np.uint32), *(each[:, 0] for each in taken)])
        sizes = np.concatenate([np.zeros(0, np.int64), *(each[:, 1] for each in taken)])
        different, which = np.unique(keys, return_inverse=True)
        counts = np.zeros(len(different), np.int64)
        np.add.at(counts, which, sizes)
        return ((different - np.uint32(1)).astype(np.int32), counts) if len(different) <= most else None

    def histogram(
        self, base: torch.Tensor, parent: torch.Tensor, shift: int, counts: np.ndarray, member: np.ndarray
    ) -> None:
        """See `KernelEngine`."""
        kernel, take = self._histogram, self._take
        used: list[np.ndarray] = []  # one for each thread, since they count at the same time
        kept: list[np.ndarray] = getattr(self._buffers, "counters", [])  # all zeros
        free = [each for each in kept if len(each) == len(counts)]

        def work(start: int, stop: int) -> None:
            try:
                mine = used.pop()
            except IndexError:
                mine = free.pop() if free else np.zeros((len(counts), 4), np.uint32)
            # Threads may write a member at the same time; it does not matter which of them stays.
            kernel(*_at(base), *_at(parent), start, stop, shift, mine, member)
            used.append(mine)

        self._buffers.counters = []
        over_chunks(base.numel(), work)
        for each in used:
            take(each, counts)
        self._buffers.counters = used

    def survey(self, base: torch.Tensor, parents: Sequence[torch.Tensor], ranges: Sequence[BitRange]) -> list[Survey]:
        """See `KernelEngine`."""
        n, n_parents = base.numel(), len(parents)
        addresses = np.array([parent.data_ptr() for parent in parents], np.int64)
        codes = np.array([_CODES[parent.dtype] for parent in parents], np.int64)
        low = np.array([each.low for each in ranges], np.int32)
        width = np.array([each.high - each.low for each in ranges], np.int32)
        value = np.array([each.value for each in ranges], np.int32)
        kernel, chunk = self._survey, parallel.CHUNK

        def work(start: int, stop: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
            values, places = self._lists(n_parents, chunk)
            sizes, counts = np.zeros(n_parents, np.int64), np.zeros(n_parents, np.int64)
            kernel(*_at(base), addresses, codes, start, stop, low, width, value, counts, sizes, values, places)
            lists = zip(counts.tolist(), values, places, sizes.tolist(), strict=True)
            return [(count, row[:size].copy(), where[:size] + np.int64(start)) for count, row, where, size in lists]

        made = over_chunks(n, work)
        return [
            Survey(
                n=sum(lists[k][0] for lists in made),
                bits=np.concatenate([np.zeros(0, np.int32), *(lists[k][1] for lists in made)]),
                places=np.concatenate([np.zeros(0, np.int64), *(lists[k][2] for lists in made)]),
            )
            for k in range(n_parents)
        ]

    def _lists(self, n_parents: int, chunk: int) -> tuple[np.ndarray, np.ndarray]:
        """Return this thread's memory for the lists of a chunk's survey; only what is used takes physical memory."""
        if getattr(self._buffers, "shape", (0, 0)) != (n_parents, chunk):
            self._buffers.shape = n_parents, chunk
            self._buffers.lists = np.empty((2, n_parents, chunk), np.int32)
        values, places = self._buffers.lists
        return values, places

    def nth(self, base: torch.Tensor, parent: torch.Tensor, bits: int, n: int) -> tuple[int, int]:
        """See `KernelEngine`."""
        size, kernel = base.numel(), self._nth
        threads, passed = parallel.n_threads(), 0
        some = parallel.CHUNK * (1 if threads == 1 else _SHARES * threads)  # entries at a time, since few may be needed

        def look(start: int, stop: int, number: int) -> int:
            return int(kernel(*_at(base), *_at(parent), start, stop, bits, number))

        for at in range(0, size, some):
            counts = over_chunks(min(size, at + some), lambda start, stop: -1 - look(start, stop, size + 1), start=at)
            for chunk, count in enumerate(counts):
                if passed + count >= n:
                    start = at + chunk * parallel.CHUNK
                    return look(start, min(size, start + parallel.CHUNK), n - passed), n
                passed += count
        return -1, passed
