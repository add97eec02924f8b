"""Ctrl-C and SIGTERM in a search: the first lets the running candidate end, the second stops at once, the third kills.

The second raises `KeyboardInterrupt` in whatever runs, so it ends a metric that hangs. Code in C that does not come
back to Python never meets it; so a thread counts the signals, too, and ends the process with the third, or some seconds
after the second. The database undoes what was half written, so such a run can be continued like any other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from evomerge.api import StopSignal

PATIENCE = 5.0
"""Seconds that the process may take to end after the second signal."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPED = 130
"""The exit status of a search that was stopped."""


@contextlib.contextmanager
def stop_on_signals(tell: Callable[[str], None], last_words: Callable[[], str]) -> Iterator[StopSignal]:
    """Turn signals into requests to stop, while the context lasts.

    Args:
        tell: says something to the user; called in a thread, since a handler must not print while a line is printed.
        last_words: returns what is said to stderr where the process has to be ended.
    """
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield stop
        return
    stop.takes_signals = True

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.request() == 2:
            raise KeyboardInterrupt

    read_end, write_end = socket.socketpair()
    write_end.setblocking(False)
    guard = threading.Thread(target=_guard, args=(read_end, tell, last_words), name="evomerge signals", daemon=True)
    guard.start()
    woken = signal.set_wakeup_fd(write_end.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        write_end.close()  # which ends the thread
        guard.join(PATIENCE)
        read_end.close()


def _guard(signals: socket.socket, tell: Callable[[str], None], last_words: Callable[[], str]) -> None:
    """Count the signals, each of which arrives as a byte; end the process where it does not end by itself."""
    count = 0
    while count < 3:
        signals.settimeout(None if count < 2 else PATIENCE)
        try:
            numbers = signals.recv(64)
        except TimeoutError:
            break
        if not numbers:
            return  # the search has ended
        new = sum(number in SIGNALS for number in numbers)
        if new and not count:
            with contextlib.suppress(Exception):  # what is shown does not matter to what follows
                tell("stopping after the running candidate; press Ctrl-C again to stop at once")
        count += new
    with contextlib.suppress(OSError, ValueError):
        print(f"evomerge: stopped; {last_words()}", file=sys.stderr, flush=True)
    os._exit(STOPPED)
