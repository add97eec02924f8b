"""Keys that are pressed while a view is shown, without Enter and without an echo."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time


class Keys:
    """The keys of the terminal at stdin; without one, there are none."""

    def __init__(self) -> None:
        self._handle: int | None = None

    def __enter__(self) -> Keys:
        with contextlib.suppress(OSError, ValueError, AttributeError, ImportError):
            import termios
            import tty

            handle = sys.stdin.fileno()
            if os.isatty(handle):
                self._before = termios.tcgetattr(handle)
                tty.setcbreak(handle)
                self._handle = handle
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            import termios

            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self._handle, termios.TCSADRAIN, self._before)
            self._handle = None

    def pressed(self, seconds: float) -> str:
        """Return what was pressed within so many seconds; "" if nothing was."""
        if self._handle is None:
            time.sleep(seconds)
            return ""
        if not select.select([self._handle], [], [], seconds)[0]:
            return ""
        typed = os.read(self._handle, 64)
        if not typed:  # the terminal is gone
            self._handle = None
        return typed.decode("ascii", "ignore")
