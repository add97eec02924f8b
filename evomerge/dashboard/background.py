"""Threads in which files are read and figures drawn, so that the server answers meanwhile and searches go first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

NICE = 10
"""How far the threads stand back behind other work of the machine."""

T = TypeVar("T")


class Background:
    """One thread that does what it is given, one thing after the other, and dies with the process.

    Unlike those of an executor, it is not waited for at the end: what it does is of no use without a server.
    """

    def __init__(self, name: str) -> None:
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have something done; its result or error is the future's."""
        future: Future[T] = Future()
        self._waiting.put((future, work))
        return future

    async def run(self, work: Callable[[], T]) -> T:
        """Have something done, and wait for it without holding up the server."""
        return await asyncio.shield(asyncio.wrap_future(self.submit(work)))

    def _work(self) -> None:
        if sys.platform == "linux":  # where a thread has a niceness of its own
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICE)
        while True:
            future, work = self._waiting.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
