"""The log of a run: the package's log lines in a file, which neither ends a search nor prints tracebacks.

A line that cannot be written, because the disk is full, say, is lost: what counts is in the database. The loss is said
once, at the end.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from evomerge.system.files import explain_os_errors, os_problem
from evomerge.system.secrets import hide
from evomerge.system.text import STORED_LENGTH, visible

log = logging.getLogger("evomerge")


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[_RunLog]:
    """Write this package's log lines to a file too, besides wherever the program sends them.

    Raises:
        RunError: if the file cannot be opened.
    """
    with explain_os_errors(path):
        handler = _RunLog(path)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()


class _RunLog(logging.FileHandler):
    """A handler whose lines may be lost.

    Attributes:
        problem: why lines were lost, in a sentence; None: none was.
    """

    def __init__(self, path: Path) -> None:
        """Open the file for further lines.

        Raises:
            OSError: if it cannot be opened.
        """
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.problem: str | None = None
        self.setFormatter(_CutFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Note that a line was lost; logging itself would print a traceback to the terminal for each."""
        del record
        self._note(sys.exc_info()[1])

    def close(self) -> None:
        """Close the file. What its buffer still holds may be lost, too."""
        try:
            super().close()
        except (OSError, ValueError) as error:
            self._note(error)

    def _note(self, error: BaseException | None) -> None:
        if self.problem is None and error is not None:
            what = os_problem(error, Path(self.baseFilename)) if isinstance(error, OSError) else str(error)
            self.problem = f"lines of the log are lost: {what}"


class _CutFormatter(logging.Formatter):
    """A formatter of lines that have an end and hold no secrets, in UTC."""

    def __init__(self, form: str) -> None:
        super().__init__(form)
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return visible(hide(super().format(record)), most=2 * STORED_LENGTH, lines=True)
