"""Ray's session folders: each cluster that is started leaves one in the system's temporary folder, and Ray clears none.

One of ours holds a file that its driver keeps locked. The kernel releases the lock with the process, so a folder with
such a file and no lock belongs to a driver that is gone; it is removed when the next cluster is started here, unless a
process of that cluster is still alive. Folders of other clusters are left alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

from evomerge.system.leftovers import try_lock

log = logging.getLogger(__name__)

MARK = "evomerge.lock"
"""The name of the file in a session folder of ours."""


def keep(session: Path) -> int | None:
    """Mark a session folder as ours, and in use as long as this process lives.

    Returns:
        The handle of the lock, for `release`; None where the folder cannot be marked.
    """
    try:
        handle = os.open(session / MARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    if not try_lock(handle):  # a file system without locks: an unlocked mark would mean that nobody uses it
        os.close(handle)
        with contextlib.suppress(OSError):
            (session / MARK).unlink()
        return None
    return handle


def release(handle: int | None) -> None:
    """Release what `keep` returned; the folder goes when the next cluster is started."""
    if handle is not None:
        with contextlib.suppress(OSError):
            os.close(handle)


def clear_dead(sessions: Path) -> list[Path]:
    """Remove the session folders of drivers of ours that are gone, and return them.

    Args:
        sessions: the folder of all session folders.
    """
    removed = []
    for session in sorted(sessions.glob("session_*")):
        if session.is_symlink() or not _is_dead(session):
            continue
        shutil.rmtree(session, ignore_errors=True)
        removed.append(session)
    latest = sessions / "session_latest"
    if removed and latest.is_symlink() and not latest.exists():
        with contextlib.suppress(OSError):
            latest.unlink()
    return removed


def _is_dead(session: Path) -> bool:
    try:
        handle = os.open(session / MARK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # it is not ours, or another user's
        return False
    try:
        return try_lock(handle) and not _in_use(session.name)
    finally:
        os.close(handle)


def _in_use(name: str) -> bool:
    """Return whether any process names a session; Ray's own outlive their driver for a few seconds."""
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if name.encode() in words.read_bytes():
                return True
    return False
