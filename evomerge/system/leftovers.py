"""Hidden files and folders in which something is made before it appears under its name, and what kills left of them.

Each is locked by the process that writes it; the kernel releases the lock with the process, even after `kill -9`. So
what bears such a name and is not locked has no owner any more, and is removed when the same thing is made again. Where
a file system has no locks, leftovers stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".partial"
_LONGEST = 100
"""Bytes of a name that a hidden name repeats: with its other parts it must fit where the name itself does."""
_TRIES, _PAUSE_SECONDS = 20, 0.05


@contextlib.contextmanager
def hidden_folder(target: Path) -> Iterator[Path]:
    """Yield a new hidden folder beside `target`; what is left there at the end is removed.

    Args:
        target: what is made; its folder is there already. Folders that killed processes left for it are removed.

    Raises:
        OSError: if the folder cannot be made.
    """
    with _made(target.parent, _prefix(target.name), SUFFIX) as folder:
        folder.chmod(0o777 & ~umask())  # it may become the target itself
        yield folder


@contextlib.contextmanager
def scratch_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder for what is needed for a while, and remove it at the end.

    Args:
        prefix: of its name, ending in "-"; folders with it that killed processes left are removed.
        parent: where it stands; None: the system's folder for such things.

    Raises:
        OSError: if the folder cannot be made.
    """
    with _made(parent or Path(tempfile.gettempdir()), prefix, "") as folder:
        yield folder


@contextlib.contextmanager
def hidden_file(target: Path) -> Iterator[tuple[int, Path]]:
    """Yield a new, open hidden file beside `target` (its handle and path); what is left of it at the end is removed.

    Raises:
        OSError: if the file cannot be made.
    """
    prefix = _prefix(target.name)
    with _alone(target.parent) as alone:
        if alone:
            _clear(target.parent, prefix, SUFFIX, folders=False)
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=SUFFIX, dir=target.parent)
        try_lock(handle)
    try:
        yield handle, Path(name)
    finally:
        with contextlib.suppress(OSError):
            os.close(handle)
        with contextlib.suppress(OSError):
            Path(name).unlink()


def umask() -> int:
    """Return the mask of permissions that new files do not get."""
    # The mask can only be read by setting it, which other threads could notice; Linux also shows it in /proc.
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    return 0o022


def _prefix(name: str) -> str:
    short = name.encode(errors="surrogateescape")[:_LONGEST].decode(errors="ignore")
    return f".{short}."


@contextlib.contextmanager
def _made(parent: Path, prefix: str, suffix: str) -> Iterator[Path]:
    with _alone(parent) as alone:
        if alone:
            _clear(parent, prefix, suffix, folders=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=parent))
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try_lock(handle)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Keep others from clearing a folder before what was just made in it is locked; yield whether that is certain."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # making something there will say why
        yield False
        return
    try:
        for _ in range(_TRIES):
            if try_lock(handle):
                yield True
                return
            time.sleep(_PAUSE_SECONDS)
        yield False
    finally:
        os.close(handle)


def try_lock(handle: int) -> bool:
    """Lock what a handle is of until it is closed; return False if it is locked already, or cannot be."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _clear(parent: Path, prefix: str, suffix: str, *, folders: bool) -> None:
    """Remove what was made by `_made` or `hidden_file` in a process that is gone."""
    # What tempfile draws, and the process ids that earlier versions took.
    name = re.compile(re.escape(prefix) + r"[a-z0-9_]{1,12}" + re.escape(suffix))
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(parent)):
            if not name.fullmatch(entry.name) or entry.is_symlink() or entry.is_dir() != folders:
                continue
            with contextlib.suppress(OSError):
                handle = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if try_lock(handle):
                        shutil.rmtree(entry.path, ignore_errors=True) if folders else Path(entry.path).unlink()
                finally:
                    os.close(handle)
