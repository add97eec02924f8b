"""Files that are whole or absent, and errors of the system in words that say what to do."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from evomerge.errors import EvomergeError, RunError
from evomerge.system.leftovers import hidden_file, umask
from evomerge.system.text import visible

MOST_TEXT = 64_000_000
"""Most bytes of a text file that a user names."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file aside, force it to disk and rename it, so that readers see the old or the new content only.

    Raises:
        RunError: if it cannot be written; an earlier file is then unchanged.
    """
    data = content.encode() if isinstance(content, str) else content
    with explain_os_errors(path):
        with hidden_file(path) as (handle, aside):
            with os.fdopen(handle, "wb", closefd=False) as file:
                file.write(data)
                file.flush()
                os.fchmod(handle, 0o666 & ~umask())  # it is made with 0600, which hides a shared run
                os.fsync(handle)
            aside.replace(path)
        sync_folder(path.parent)


def write_json(path: Path, data: object) -> None:
    """Write data as JSON for people to read; not atomically, so in a folder that is made aside."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_file(path: Path, what: str, error: type[EvomergeError]) -> bytes:
    """Return the content of a small text file that a user names.

    Args:
        path: the file.
        what: what it should be, for the message: "the recipe".
        error: the class of the error.

    Raises:
        EvomergeError: of that class, if it is missing, a folder, a pipe, too large for a text, or cannot be read.
    """
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_size <= MOST_TEXT:
            return path.read_bytes()
    except (OSError, ValueError) as problem:  # ValueError: a character that no path can hold
        reason = problem.strerror if isinstance(problem, OSError) else None
        raise error(f"cannot read {what} {path}: {reason or problem}") from problem
    if stat.S_ISREG(found.st_mode):
        raise error(f"cannot read {what} {path}: {found.st_size / 1e6:,.0f} MB are too many for a text file")
    kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no ordinary file"
    raise error(f"cannot read {what} {path}: it is {kind}")


def read_text(path: Path, what: str, error: type[EvomergeError]) -> str:
    """Return the text of a small file that a user names; UTF-8, with or without a byte order mark.

    Raises:
        EvomergeError: of that class, as by `read_file`, or if it is not UTF-8.
    """
    data = read_file(path, what, error)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(
            f"cannot read {what} {path}: it is not UTF-8 text (the byte 0x{data[problem.start]:02x} at {problem.start})"
        ) from problem


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk, where folders can be synced, so that a rename survives a power cut."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def explain_os_errors(path: Path, kind: type[EvomergeError] = RunError) -> Iterator[None]:
    """Turn an `OSError` about `path` into an error of ours that says what to do.

    Raises:
        EvomergeError: of that kind, in place of the error.
    """
    try:
        yield
    except OSError as error:
        raise kind(os_problem(error, path)) from error
    except ValueError as error:
        if "null" not in str(error):
            raise
        raise kind(f"cannot use {visible(path)}: no name of a file holds the character \\x00") from error


def user_path(named: str | Path, kind: type[EvomergeError] = RunError) -> Path:
    """Return the path that a user names, with `~` followed.

    Raises:
        EvomergeError: of that kind, if no file can be there: the name is too long, say, or its folder is a file.
    """
    try:
        path = Path(named).expanduser()
    except RuntimeError as error:  # ~NOBODY
        raise kind(f"cannot use {visible(named)}: {error}; write the whole path") from error
    with explain_os_errors(path, kind), contextlib.suppress(FileNotFoundError):
        path.stat()
    return path


def free_folder(named: str | Path, kind: type[EvomergeError]) -> Path:
    """Return the path of a folder that is to be made; nothing is there yet, or an empty folder.

    Raises:
        EvomergeError: of that kind, if something is there already, or nothing can be.
    """
    path = user_path(named, kind)
    with explain_os_errors(path, kind):
        if path.is_dir():
            if any(path.iterdir()):
                raise kind(f"{path} already holds something; choose another folder, or empty it")
        elif path.exists() or path.is_symlink():
            raise kind(f"{path} is a file, not a folder; choose the name of a new folder")
    return path


@contextlib.contextmanager
def explain_database_errors(path: Path) -> Iterator[None]:
    """Turn an error of SQLite about the database `path` into a `RunError` that says what to do.

    Misuse of the sqlite3 module and broken constraints are bugs of ours, and stay as they are.

    Raises:
        RunError: in place of the error.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.IntegrityError):
        raise
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_ERROR" and "no such" not in str(error):
            raise
        raise RunError(_database_problem(error, path)) from error


def damaged(path: Path, reason: object) -> RunError:
    """Return the error for a database whose content cannot be trusted."""
    damaged_file, rescued = shlex.quote(str(path)), shlex.quote(str(path.with_name("recovered.sqlite")))
    return RunError(
        f"the run's database {path} is damaged ({reason}). Nothing was written to it. Copy the folder first; records "
        f"up to the damage may be recovered with SQLite's own command line tool: "
        f"sqlite3 {damaged_file} .recover | sqlite3 {rescued}"
    )


def os_problem(error: OSError, path: Path) -> str:
    """Return in a sentence why `path` cannot be used, and what to do."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot write {path}: {_DISK_FULL} ({reason}). {_CONTINUE}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot write {path}: the folder is read-only for this user ({reason}). {_READ_ONLY}"
    if error.errno in (errno.ENOENT, errno.ESTALE) and not path.parent.is_dir():
        return f"cannot use {path}: its folder is not there: was it moved or removed? ({reason}). {_MOVED}"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"cannot use {path}: something that is not a folder is in the way ({reason}). Choose another folder"
    if error.errno == errno.ENAMETOOLONG:
        return (
            f"cannot use {visible(path, most=200)}: the name is too long for this disk ({reason}). Choose a shorter one"
        )
    if error.errno == errno.ELOOP:
        return f"cannot use {path}: its links lead in a circle ({reason}). Choose another folder"
    return f"cannot use {path}: {reason}"


def _database_problem(error: sqlite3.Error, path: Path) -> str:
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    primary = name.split("_")[1] if "_" in name else name  # SQLITE_READONLY_ROLLBACK -> READONLY
    reason = f"{error}; {name}"
    gone = primary in ("READONLY", "IOERR", "CANTOPEN") and not path.exists()
    if name == "SQLITE_READONLY_DBMOVED" or gone:
        return f"the database {path} was moved or removed while it was in use ({reason}). {_MOVED}"
    if primary == "FULL":
        return f"cannot write the database {path}: {_DISK_FULL} ({reason}). {_CONTINUE}"
    if name in ("SQLITE_READONLY_ROLLBACK", "SQLITE_READONLY_CANTLOCK", "SQLITE_READONLY_RECOVERY"):
        return (
            f"the database {path} was left in the middle of a write, which must be undone before it can be read, but "
            f"its folder is read-only ({reason}). Make it writable, or copy the folder (with {path.name}-journal) to "
            "a place where you may write"
        )
    if primary in ("READONLY", "PERM"):
        return f"cannot write the database {path}: it is read-only for this user ({reason}). {_READ_ONLY}"
    if primary in ("BUSY", "LOCKED"):
        return (
            f"the database {path} is held by another program ({reason}). Close what reads it (for example a sqlite3 "
            f"shell). {_CONTINUE}"
        )
    if primary == "CANTOPEN":
        return f"cannot open the database {path} ({reason}). Check that it is there and that you may read its folder"
    if primary == "IOERR":
        return f"the disk gave an error on the database {path} ({reason}). Check the disk and its quota. {_CONTINUE}"
    if primary in ("CORRUPT", "NOTADB", "ERROR", "FORMAT"):
        return str(damaged(path, reason))
    return f"the database {path} cannot be used ({reason})"


_DISK_FULL = "the disk is full"
_CONTINUE = (
    "Set this right and do it again: whatever a run committed before is kept, and `evomerge resume` continues it"
)
_MOVED = (
    "If the folder was moved, what was committed moved with it: `evomerge resume` continues the run where it is now"
)
_READ_ONLY = "It can be read, but to continue the run make it writable, or copy it and resume the copy"
