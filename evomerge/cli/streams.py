"""Standard output and error that take every text, whatever their encoding; no library is loaded for them."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from evomerge.system.text import VISIBLE, json_text, visible

GONE = 141
"""The exit status where the reader of the output is gone, as of a process that SIGPIPE ended."""


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Let stdout and stderr take every text: what their encoding lacks is spelled; what is closed takes and forgets.

    So does stderr when its reader is gone, since libraries show their progress there in the middle of work.
    """
    with contextlib.ExitStack() as after:
        for name in ("stdout", "stderr"):
            stream: Any = getattr(sys, name)
            if stream is None:  # the process was started without it
                nowhere = after.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                after.callback(setattr, sys, name, None)
                setattr(sys, name, nowhere)
            elif hasattr(stream, "reconfigure"):
                after.callback(_set_errors, stream, stream.errors)
                stream.reconfigure(errors=VISIBLE)
        with unread("stderr"):
            yield


@contextlib.contextmanager
def unread(*names: str) -> Iterator[None]:
    """Let streams of `sys` lose what nobody reads any more, rather than raise in whatever prints."""
    before = {name: getattr(sys, name) for name in names}
    for name, stream in before.items():
        setattr(sys, name, _Unread(stream))
    try:
        yield
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)


def say(text: object) -> None:
    """Print text on lines of its own, every character visible."""
    print(visible(text, lines=True))


def say_json(data: Any, *, indent: int | None = 2) -> None:
    """Print JSON that reads back to the same data, whatever the output's encoding."""
    print(json_text(data, indent=indent, encoding=getattr(sys.stdout, "encoding", None) or "utf-8"))


def finish_output() -> int:
    """Write out what was printed; return the exit status: 0, or what says that it could not be written.

    Python must not try again when it ends, so a stream that cannot be written is replaced by nothing.
    """
    status = 0
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        try:
            stream.flush()
        except ValueError:  # closed by a library
            continue
        except OSError as error:
            status = GONE if error.errno == errno.EPIPE else 1
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if status == 1 and name == "stdout":
                with contextlib.suppress(OSError, ValueError):
                    print(f"evomerge: the output could not be written: {error.strerror or error}", file=sys.stderr)
    return status


class _Unread:
    """A stream whose reader may go."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or lose it."""
        with self._lost():
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines, or lose them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write out what waits, or lose it."""
        with self._lost():
            self._stream.flush()

    @contextlib.contextmanager
    def _lost(self) -> Iterator[None]:
        try:
            yield
        except ValueError:  # closed
            return
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _set_errors(stream: Any, errors: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # closed, or its reader is gone
        stream.reconfigure(errors=errors)
