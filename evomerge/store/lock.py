"""One writer per run: a lock that the kernel releases with the process, even after `kill -9`."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import time
import weakref
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from evomerge.errors import RunError
from evomerge.system.files import explain_os_errors

_ATTEMPTS = 6
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Holder:
    """Who writes a run, as its lock tells.

    Attributes:
        held: whether the lock is held, as far as this machine sees; None: the file cannot be read.
        pid: of the process that holds it, or that ended without releasing it; None: nobody's name is there.
        host: the machine of that process.
        since: when it took the lock, in ISO 8601.
    """

    held: bool | None
    pid: int | None = None
    host: str | None = None
    since: str | None = None

    def __str__(self) -> str:
        if self.pid is None:
            return "another process"  # it has the lock, but has not written its name yet
        return f"process {self.pid} on {self.host} since {self.since}"

    @property
    def here(self) -> bool:
        """Whether that process is one of this machine."""
        return self.host == platform.node()


def holder_of(path: Path) -> Holder:
    """Return who holds a writer's lock; nobody is disturbed by the question."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for a writer
    except FileNotFoundError:
        return Holder(False)
    except OSError:
        return Holder(None)
    try:
        held = False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            held = True
        return _holder(handle, held=held)
    finally:
        os.close(handle)


class WriterLock:
    """An exclusive lock on a file that names its holder; held from construction to `release`.

    The file stays when the lock is released: if it were deleted, two processes could lock two files of the same name.
    `flock` also refuses a second lock within one process, and works over NFS on Linux.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            RunError: if another process (or another object of this one) holds it, or the folder is read-only.
        """
        self.path = path
        with explain_os_errors(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._take(handle)
        except BaseException:
            os.close(handle)
            raise
        self._handle: int | None = handle
        _drop_in_forks(self)

    def release(self) -> None:
        """Release the lock; may be called twice."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, 0)
            self.drop()

    def drop(self) -> None:
        """Close this process's handle only; a parent process that shares the lock keeps the lock."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _take(self, handle: int) -> None:
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise RunError(
                    f"the run {self.path.parent} is being written by {_holder(handle, held=True)}. Two processes "
                    "cannot write one run: wait until that one ends, or stop it (then `evomerge resume` continues)"
                ) from error
            raise RunError(
                f"cannot lock {self.path} ({error.strerror}): runs need a file system with locks. "
                "Choose a folder on a local disk"
            ) from error
        holder = {
            "pid": os.getpid(),
            "host": platform.node(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        with explain_os_errors(self.path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(holder).encode(), 0)


def _lock(handle: int) -> None:
    """Lock, trying for a moment: a process that asks whether a run is locked holds a shared lock for an instant."""
    for attempt in range(_ATTEMPTS):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE_SECONDS)


def _holder(handle: int, *, held: bool) -> Holder:
    try:
        data = json.loads(os.pread(handle, 4096, 0))
        return Holder(held, int(data["pid"]), str(data["host"]), str(data["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Holder(held)


# A forked child (a data loader, for instance) shares the lock, and would keep it after the parent's death.
_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()
_registered = False


def _drop_in_forks(lock: WriterLock) -> None:
    global _registered
    _held.add(lock)
    if not _registered:
        os.register_at_fork(after_in_child=_drop_all)
        _registered = True


def _drop_all() -> None:
    for lock in list(_held):
        lock.drop()
