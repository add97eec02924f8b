"""From an exception to a message and an exit status: 2 bad input, 130 interrupt, 1 anything else."""

from __future__ import annotations

import contextlib
import errno
import sys
import traceback
from pathlib import Path

from evomerge.errors import EvaluationError, EvomergeError, Interrupted
from evomerge.system.text import STORED_LENGTH, error_text, visible


def report_failure(error: BaseException) -> int:
    """Print what went wrong to stderr and return the exit status; only a bug shows its traceback."""
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        _tell(str(error) or "interrupted")
        return 130
    if isinstance(error, EvomergeError):
        _tell("; ".join([error_text(error), *getattr(error, "__notes__", ())]))
        return 1 if isinstance(error, EvaluationError) else 2
    if isinstance(error, SystemExit):
        _tell(
            f"before this command was done, code that it called ended it with sys.exit({error.code!r}): {_where(error)}"
        )
        return 1
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        named = (
            f"{error.filename}: "
            if error.filename
            else "what this command prints or writes does not fit: "
            if full
            else ""
        )
        _tell(f"{named}{error.strerror or error_text(error)}{'. Make room, and do this again' if full else ''}")
        return 2 if error.filename or full else 1
    if isinstance(error, (RecursionError, MemoryError, UnicodeError)):
        _tell(f"{type(error).__name__}: {error_text(error)}")
        return 1
    _tell("".join(traceback.format_exception(error))[-STORED_LENGTH:], head="")
    _tell("this is a bug; please report it with the lines above")
    return 1


def _tell(text: str, head: str = "evomerge: ") -> None:
    with contextlib.suppress(OSError, ValueError):  # stderr is closed, or its reader is gone
        print(f"{head}{visible(text, lines=True)}", file=sys.stderr)


def is_foreign_exit(error: SystemExit) -> bool:
    """Return whether anybody's code ended the process, rather than a parser of arguments."""
    frames = traceback.extract_tb(error.__traceback__)
    parts = Path(frames[-1].filename).parts if frames else ()
    return bool(parts) and parts[-1] != "argparse.py" and not {"hydra", "evomerge"} & set(parts[-4:-1])


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else "somewhere"
