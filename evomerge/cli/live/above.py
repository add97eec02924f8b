"""What other code prints while a view is shown: it stands above the view, whole lines at a time."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from evomerge.system.text import visible


class Above:
    """A stream in place of stdout or stderr. A line that is written again and again (a progress bar) is shown once.

    Args:
        console: prints the lines.
        stream: the stream that it stands for.
    """

    def __init__(self, console: Console, stream: Any) -> None:
        self._console, self._stream = console, stream
        self._lock = threading.Lock()
        self._rest = ""

    @property
    def rich_proxied_file(self) -> Any:
        """The stream that it stands for, by the name under which rich looks for it."""
        return self._stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Take text; whole lines are printed."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            if "\r" in self._rest:
                self._rest = _last_state(self._rest, ended=False)
        for line in lines:
            self._print(_last_state(line, ended=True))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Take lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Wait for the end of the line."""

    def end(self) -> None:
        """Print what has no end of a line."""
        with self._lock:
            rest, self._rest = self._rest, ""
        if rest.strip():
            self._print(_last_state(rest, ended=True))

    def _print(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            shown = Text.from_ansi(line)
            self._console.print(shown if visible(shown.plain, lines=True) == shown.plain else Text(visible(line)))


def _last_state(line: str, *, ended: bool) -> str:
    """Return what a line that was written over and over shows at last."""
    states = [one for one in line.split("\r") if one.strip()]
    if not states:
        return ""
    return states[-1] if ended or not line.endswith("\r") else states[-1] + "\r"


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
