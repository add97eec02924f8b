"""Folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from evomerge.errors import ExportError
from evomerge.system.leftovers import hidden_folder


@contextlib.contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """Yield a new folder beside `out`, which becomes `out` at the end or is removed if anything goes wrong.

    Raises:
        ExportError: if it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with hidden_folder(out) as folder:
            yield folder
            for path in folder.rglob("*"):
                _sync(path)
            _sync(folder)
            folder.rename(out)  # replaces an empty folder, refuses any other
            _sync(out.parent)
    except OSError as error:
        raise ExportError(f"cannot write {out}: {_reason(error)}; nothing was left there") from error


def _sync(path: Path) -> None:
    """Force a file, or a folder's entries where possible, to the disk, so that it survives a power cut."""
    file = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
            os.fsync(file)
    finally:
        os.close(file)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: make room, or choose another disk"
    return error.strerror or str(error)
