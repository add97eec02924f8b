"""From an exception to a message and an exit status: 2 bad input, 130 interrupt, 1 anything else."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

from evomerge.errors import EvaluationError, EvomergeError, Interrupted
from evomerge.system.config_files import PACKAGE
from evomerge.system.text import STORED_LENGTH, error_text, visible

_HYDRA = importlib.util.find_spec("hydra")
_OURS = {
    str(PACKAGE),
    *([] if _HYDRA is None or _HYDRA.origin is None else [str(Path(_HYDRA.origin).parent)]),
}
"""The folders of evomerge and of Hydra, which ends the process where it cannot go on."""


def report_failure(error: BaseException) -> int:
    """Print what went wrong to stderr and return the exit status; only a bug shows its traceback."""
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        _tell(str(error) or "interrupted")
        return 130
    if isinstance(error, EvomergeError):
        _tell("; ".join([error_text(error), *getattr(error, "__notes__", ())]))
        return 1 if isinstance(error, EvaluationError) else 2
    if isinstance(error, SystemExit):
        _tell(f"before this command was done, {_place(error)} ended it with sys.exit({error.code!r})")
        return 1
    if isinstance(error, OSError):
        return _tell_os_error(error)
    if isinstance(error, ValueError) and "closed file" in str(error):  # somebody's code closed stdout
        _tell("the output was closed before everything was printed; `evomerge status RUN` shows a run")
        return 1
    if isinstance(error, (RecursionError, MemoryError, UnicodeError)):
        _tell(f"{type(error).__name__}: {error_text(error)}")
        return 1
    _tell("".join(traceback.format_exception(error))[-STORED_LENGTH:], head="")
    if _is_foreign(error):
        _tell(f"{_place(error)} raised this, which is no part of evomerge; what a run committed before is kept")
    else:
        _tell("this is a bug; please report it with the lines above")
    return 1


def _tell(text: str, head: str = "evomerge: ") -> None:
    with contextlib.suppress(OSError, ValueError):  # stderr is closed, or its reader is gone
        print(f"{head}{visible(text, lines=True)}", file=sys.stderr)


def _tell_os_error(error: OSError) -> int:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = f"{error.filename}: " if error.filename else "what this command writes does not fit: " if full else ""
    _tell(f"{what}{error.strerror or error_text(error)}{'. Make room, and do this again' if full else ''}")
    return 2 if error.filename else 1


def is_foreign_exit(error: SystemExit) -> bool:
    """Return whether anybody's code ended the process, rather than a parser of arguments."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).name != "argparse.py" and not _stands_in(frames[-1], _OURS)


def _is_foreign(error: BaseException) -> bool:
    """Return whether an error comes out of anybody's own file: no module of evomerge, of Python or of a library."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = {path for name, path in sysconfig.get_paths().items() if "lib" in name}
    return bool(frames) and not frames[-1].filename.startswith("<") and not _stands_in(frames[-1], {*_OURS, *libraries})


def _stands_in(frame: traceback.FrameSummary, folders: Iterable[str]) -> bool:
    return any(Path(frame.filename).is_relative_to(folder) for folder in folders)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}, line {frames[-1].lineno}," if frames else "code that it called"
