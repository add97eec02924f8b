"""Chunks of one tensor, spread over as many threads as torch uses."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

CHUNK = 1 << 18
"""How many entries a thread takes at a time: many against the cost of a call, few against a matrix."""

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def over_chunks(n: int, work: Callable[[int, int], T], *, start: int = 0, size: int | None = None) -> list[T]:
    """Return work(first, last) for each chunk (of `size`, or CHUNK) of the entries start to n − 1, in order.

    The work must release Python's lock to gain from several threads. If it raises, the first error is raised when all
    threads have stopped.
    """
    size = size or CHUNK
    bounds = [(at, min(at + size, n)) for at in range(start, n, size)]
    threads = min(n_threads(), len(bounds))
    if threads <= 1:
        return [work(*each) for each in bounds]
    results: list[T | None] = [None] * len(bounds)
    turn = itertools.count()  # `next` is one step of the interpreter, so no chunk is taken twice

    def some() -> None:
        for index in iter(lambda: next(turn), None):
            if index >= len(bounds):
                return
            results[index] = work(*bounds[index])

    helpers = [_pool(threads - 1).submit(some) for _ in range(threads - 1)]
    try:
        some()
    finally:
        next(itertools.islice(turn, len(bounds), None))  # after an error here, no thread starts another chunk
        errors = [helper.exception() for helper in helpers]  # waits: no thread may still write into our tensors
    for error in errors:
        if error is not None:
            raise error
    return results  # type: ignore[return-value]  # each was filled


def n_threads() -> int:
    """Return torch's number of threads; where torch is not loaded: OMP_NUM_THREADS, or all cores."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pool(threads: int) -> ThreadPoolExecutor:
    key = os.getpid(), threads  # threads do not survive a fork
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads, thread_name_prefix="evomerge-kernel")
    return _pools[key]
