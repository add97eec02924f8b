"""The compiled kernels on tensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from evomerge.merge.kernels import native, parallel
from evomerge.merge.kernels.parallel import over_chunks
from evomerge.merge.kernels.program import Cut, Program

if TYPE_CHECKING:
    import torch


class _Codes(dict[str, int]):
    """The kernels' numbers of types, whether they are torch's or those of `evomerge.merge.flat`."""

    def __getitem__(self, dtype: object) -> int:
        return super().__getitem__(str(dtype))


_CODES = _Codes({
    "torch.bfloat16": native.BF16, "torch.float16": native.F16, "torch.float32": native.F32, "torch.float64": native.F64
})  # fmt: skip
_WAVE = 16
"""Chunks that are searched before it is asked whether the search is over."""


def _compile(function: Any, signature: str) -> Any:
    """Compile a kernel, or load what an earlier process compiled for this processor."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    before = numba.config.CACHE_DIR
    if not before:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        numba.config.CACHE_DIR = str(Path(root) / "evomerge" / "kernels")
    try:
        return numba.njit(signature, cache=True, **options)(function)
    except (OSError, RuntimeError):  # nowhere to write, as in a read-only container
        return numba.njit(signature, **options)(function)
    finally:
        numba.config.CACHE_DIR = before


def _at(tensor: torch.Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), _CODES[tensor.dtype]


class NumbaEngine:
    """Kernels compiled by numba, on `torch.get_num_threads()` threads; each is compiled when it is first needed."""

    def __init__(self) -> None:
        self._buffers = local()

    @cached_property
    def _run(self) -> Any:
        return _compile(native.run, native.RUN)

    @cached_property
    def _finite(self) -> Any:
        return _compile(native.finite, native.FINITE)

    @cached_property
    def _dots(self) -> Any:
        return _compile(native.dots, native.DOTS)

    @cached_property
    def _histogram(self) -> Any:
        return _compile(native.histogram, native.HISTOGRAM)

    @cached_property
    def _within(self) -> Any:
        return _compile(native.within, native.WITHIN)

    @cached_property
    def _count(self) -> Any:
        return _compile(native.count, native.COUNT)

    @cached_property
    def _collect(self) -> Any:
        return _compile(native.collect, native.COLLECT)

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
        """See `Engine`; `out` holds the entries from `start` on, a multiple of `native.BLOCK`, as many as it has."""
        n = len(parents)
        mask, threshold, limit = np.zeros(n, np.int64), np.zeros(n, np.float32), np.zeros(n, np.int64)
        seed, rescale = np.zeros(n, np.uint64), np.ones(n, np.float32)
        for k, each in enumerate(program.masks):
            if isinstance(each, Cut):
                mask[k], threshold[k], limit[k] = native.CUT, each.threshold, each.limit
            elif each.below < 65536:
                mask[k], limit[k] = native.DROP, each.below - 1
                seed[k], rescale[k] = each.seed, each.rescale
        steps = [_CODES[dtype] for dtype in roundings]
        while steps and steps[-1] == _CODES[out.dtype]:  # storing does that
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
        kernel = self._run
        return max(over_chunks(start + out.numel(), lambda *chunk: kernel(*head, *chunk), start=start), default=0)

    def finite(self, tensor: torch.Tensor) -> bool:
        """See `Engine`."""
        if _CODES[tensor.dtype] == native.F64:  # a large one is finite, though not as fp32
            return bool(tensor.isfinite().all())
        kernel = self._finite
        return not any(over_chunks(tensor.numel(), lambda start, stop: kernel(*_at(tensor), start, stop)))

    def dots(self, a: torch.Tensor, b: torch.Tensor) -> tuple[float, float, float]:
        """See `Engine`."""
        n = a.numel()
        sums, kernel = np.zeros((-(-n // native.SEGMENT), 3)), self._dots
        over_chunks(n, lambda start, stop: kernel(*_at(a), *_at(b), start, stop, sums), size=4 * native.SEGMENT)
        aa, ab, bb = (sum(column) for column in sums.T.tolist())
        return float(aa), float(ab), float(bb)

    def histogram(self, base: torch.Tensor, parent: torch.Tensor, shift: int, counts: np.ndarray) -> None:
        """See `Engine`."""
        kernel = self._histogram
        made: list[np.ndarray] = []  # one for each thread, since they count at the same time
        free: list[np.ndarray] = []

        def work(start: int, stop: int) -> None:
            try:
                mine = free.pop()
            except IndexError:
                mine = np.zeros((4, len(counts)), np.uint32)
                made.append(mine)
            kernel(*_at(base), *_at(parent), start, stop, shift, mine)
            free.append(mine)

        over_chunks(base.numel(), work)
        for each in made:
            for row in each:
                counts += row

    def within(self, base: torch.Tensor, parent: torch.Tensor, low: int, high: int) -> np.ndarray:
        """See `Engine`."""
        kernel = self._within

        def work(start: int, stop: int) -> np.ndarray:
            counts = np.zeros(high - low, np.int64)
            kernel(*_at(base), *_at(parent), start, stop, low, high, counts)
            return counts

        return sum(over_chunks(base.numel(), work), np.zeros(high - low, np.int64))

    def count(self, base: torch.Tensor, parent: torch.Tensor, low: int, high: int) -> int:
        """See `Engine`."""
        kernel = self._count
        return sum(over_chunks(
            base.numel(), lambda start, stop: kernel(*_at(base), *_at(parent), start, stop, low, high)
        ))  # fmt: skip

    def collect(self, base: torch.Tensor, parent: torch.Tensor, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine`."""
        found = over_chunks(base.numel(), lambda start, stop: self._collect_some(base, parent, start, stop, low, high))
        if not found:
            return np.zeros(0, np.int32), np.zeros(0, np.int64)
        return np.concatenate([values for values, _ in found]), np.concatenate([indices for _, indices in found])

    def _collect_some(
        self, base: torch.Tensor, parent: torch.Tensor, start: int, stop: int, low: int, high: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if len(getattr(self._buffers, "values", ())) < stop - start:
            self._buffers.values, self._buffers.indices = (
                np.empty(parallel.CHUNK, np.int32),
                np.empty(parallel.CHUNK, np.int64),
            )
        values, indices = self._buffers.values, self._buffers.indices
        n = self._collect(*_at(base), *_at(parent), start, stop, low, high, values, indices)
        return values[:n].copy(), indices[:n].copy()

    def nth(self, base: torch.Tensor, parent: torch.Tensor, low: int, high: int, n: int) -> tuple[int, int]:
        """See `Engine`."""
        size, chunk, passed, kernel = base.numel(), parallel.CHUNK, 0, self._count
        for begin in range(0, size, _WAVE * chunk):
            counts = over_chunks(
                min(size, begin + _WAVE * chunk),
                lambda start, stop: kernel(*_at(base), *_at(parent), start, stop, low, high),
                start=begin,
            )
            if passed + sum(counts) < n:
                passed += sum(counts)
                continue
            for index, each in enumerate(counts):
                if passed + each >= n:
                    start = begin + index * chunk
                    _, indices = self._collect_some(base, parent, start, min(size, start + chunk), low, high)
                    return int(indices[n - passed - 1]), n
                passed += each
        return -1, passed
