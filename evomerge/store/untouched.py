"""Reading a database without touching it, whatever state it was left in: no file is written, made, mended or removed.

A reader that finds the journal of a killed writer would undo the half-written transaction in the file itself, which is
the right thing for who goes on to write. Who only looks, at the runs of others perhaps, undoes it in a copy.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import stat
import tempfile
import time
from pathlib import Path

from evomerge.errors import RunError
from evomerge.system.files import explain_database_errors, explain_os_errors

_ATTEMPTS = 5

_SETTLED_NS = 100_000_000
"""Times of files have steps of some milliseconds."""


def connect_untouched(path: Path, *, busy_seconds: float) -> sqlite3.Connection:
    """Return a connection that reads what the last commit left.

    A lock is held only while a statement or a transaction reads. After a writer was killed, the connection is to a copy
    in memory.

    Args:
        path: the database.
        busy_seconds: how long to wait for a writer's commit.

    Raises:
        RunError: if it is no ordinary file, cannot be read, or has a write-ahead log.
    """
    for one in (path, _journal(path)):
        _refuse_other_than_files(one)
    for _ in range(_ATTEMPTS):
        with explain_database_errors(path):
            try:
                return _connect(path, busy_seconds)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname.startswith("SQLITE_IOERR"):
                    raise RunError(
                        f"the database {path} cannot be read ({error}): the disk fails, or it was given a write-ahead "
                        f"log, which evomerge never does: `sqlite3 {path} 'PRAGMA journal_mode = DELETE'` takes it away"
                    ) from error
                if error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
                    raise
        copy = _mended_copy(path)
        if copy is not None:
            return copy
    raise RunError(f"the database {path} changes faster than it can be copied; try again in a moment")


def _connect(path: Path, busy_seconds: float) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=busy_seconds, isolation_level=None)
    try:
        # In this mode a database with a write-ahead log gives an error; otherwise SQLite would make the log's files.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA schema_version")
        db.execute("PRAGMA locking_mode = NORMAL")
        db.execute("PRAGMA schema_version")  # frees the lock
    except BaseException:
        db.close()
        raise
    return db


def _mended_copy(path: Path) -> sqlite3.Connection | None:
    """Return a copy in memory in which a killed writer's transaction is undone; None: it was undone meanwhile."""
    with tempfile.TemporaryDirectory(prefix="evomerge-") as folder, explain_os_errors(path):
        aside = Path(folder) / path.name
        before = _stamps(path)
        try:
            # Nobody writes this database, so this process holds no lock on it that closing the files would free.
            shutil.copyfile(path, aside)
            shutil.copyfile(_journal(path), _journal(aside))
        except FileNotFoundError:
            return None
        if _stamps(path) != before:
            return None
        with explain_database_errors(path), contextlib.closing(sqlite3.connect(aside)) as mended:
            mended.execute("SELECT count(*) FROM sqlite_master")  # undoes it
            return in_memory(mended)


def in_memory(db: sqlite3.Connection) -> sqlite3.Connection:
    """Return a copy of a database in memory, of one moment."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        db.backup(copy)
    except BaseException:
        copy.close()
        raise
    return copy


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def _stamps(path: Path) -> list[tuple[int, int, int] | None]:
    return [stamp(one) for one in (path, _journal(path))]


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what differs after a file was written: its number, time and size; None: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def settled_stamp(path: Path) -> tuple[int, ...] | None:
    """Return the stamp of a file; of one that was written just now, which may be written again with it, another one."""
    found = stamp(path)
    settled = found is None or abs(time.time_ns() - found[1]) > _SETTLED_NS
    return found if settled or found is None else (*found, time.time_ns())


def _refuse_other_than_files(path: Path) -> None:
    """Check that opening a file does not wait for somebody, as for the other end of a pipe."""
    with explain_os_errors(path), contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "no ordinary file"
            raise RunError(f"{path} is {what}, not a database; the folder holds no run")
