"""What other code prints while a view is shown: it stands above the view, whole lines at a time."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.text import Text

from evomerge.system.text import visible


class Above(FileProxy):
    """A stream in place of stdout or stderr. A line that is written again and again (a progress bar) is shown once.

    Args:
        console: prints the lines.
        stream: the stream that it stands for.
    """

    def __init__(self, console: Console, stream: Any) -> None:
        super().__init__(console, stream)
        self._console = console
        self._lock = threading.Lock()
        self._rest = ""

    def write(self, text: str) -> int:
        """Take text; whole lines are printed."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            if "\r" in self._rest:
                self._rest = _last_state(self._rest)
        for line in lines:
            self._print(line)
        return len(text)

    def flush(self) -> None:
        """Wait for the end of the line."""

    def end(self) -> None:
        """Print what has no end of a line."""
        with self._lock:
            rest, self._rest = self._rest, ""
        if rest.strip():
            self._print(rest)

    def _print(self, line: str) -> None:
        line = _last_state(line).rstrip("\r")
        shown = Text.from_ansi(line)
        with contextlib.suppress(OSError, ValueError):
            self._console.print(shown if visible(shown.plain, lines=True) == shown.plain else Text(visible(line)))


def _last_state(line: str) -> str:
    """Return what a line that was written over and over shows at last, ready to be written over if it was."""
    states = [one for one in line.split("\r") if one.strip()]
    last = states[-1] if states else ""
    return last + "\r" if line.endswith("\r") else last


@contextlib.contextmanager
def printed_above(console: Console) -> Iterator[None]:
    """Let what is printed to stdout and stderr stand above what the console shows live."""
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for name, stream in before.items():
        if console.file is stream or getattr(stream, "isatty", lambda: False)():
            setattr(sys, name, Above(console, stream))
    try:
        yield
    finally:
        for name, stream in before.items():
            mine = getattr(sys, name)
            if isinstance(mine, Above):
                setattr(sys, name, stream)
                mine.end()
