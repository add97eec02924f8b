"""Which runs a folder holds. Links are not followed, so nothing outside of it can be reached."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evomerge.errors import RunError
from evomerge.store.run_dir import CONFIG, DATABASE, LOCK
from evomerge.system.text import visible

DEEPEST = 6
"""How many folders down runs are looked for: outputs/NAME/sweep_TIME/0, and some more."""

MOST_FOLDERS = 20_000
"""In so many folders runs are looked for at most, so that a wrong folder, `/` say, keeps nobody waiting."""


@dataclass(frozen=True)
class FoundRun:
    """A folder in which there is a run, or something in its place.

    Attributes:
        key: its name in addresses, made from where it stands.
        path: the folder.
        place: where that is below the folder of all runs, every character visible.
        problem: why it cannot be read; None: nothing speaks against it.
        begun: whether it is still without a database: a search that is opening its models, or was stopped then.
    """

    key: str
    path: Path
    place: str
    problem: str | None = None
    begun: bool = False


@dataclass(frozen=True)
class FoundRuns:
    """What a folder holds.

    Attributes:
        runs: by key, in the order of their places.
        cut: whether there are too many folders, so that some were not looked into.
    """

    runs: dict[str, FoundRun]
    cut: bool


def find(root: Path) -> FoundRuns:
    """Return the runs below a folder, or the folder itself where it is one.

    Args:
        root: the folder, resolved.
    """
    found: list[FoundRun] = []
    waiting = [(root, 0)]
    looked_into = 0
    while waiting and looked_into < MOST_FOLDERS:
        folder, depth = waiting.pop()
        looked_into += 1
        try:
            with os.scandir(folder) as entries:
                inner = {entry.name: entry for entry in entries}
        except OSError as error:
            if not isinstance(error, FileNotFoundError):  # it vanished meanwhile
                found.append(_made(root, folder, problem=f"the folder cannot be read: {error.strerror}"))
            continue
        if DATABASE in inner:
            found.append(_made(root, folder, problem=_problem(inner[DATABASE])))
        elif CONFIG in inner and LOCK in inner:
            found.append(_made(root, folder, begun=True))
        elif depth < DEEPEST:
            waiting += [(Path(entry.path), depth + 1) for entry in _folders(inner)]
    return FoundRuns({one.key: one for one in sorted(found, key=lambda one: one.place)}, cut=bool(waiting))


def check(root: Path, run: FoundRun) -> Path:
    """Return the folder of a run, which is still where it was found.

    Raises:
        RunError: if it is gone, or a link stands in its place.
    """
    try:
        real = run.path.resolve(strict=True)
    except OSError as error:
        raise RunError(f"{run.path} is gone: {error.strerror}") from error
    if real != run.path or not real.is_relative_to(root) or (real / DATABASE).is_symlink():
        raise RunError(f"{run.path} leads elsewhere through a link, which is not followed")
    if run.problem is not None:
        raise RunError(run.problem)
    return real


def _folders(inner: dict[str, os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    for name, entry in inner.items():
        try:
            if not name.startswith(".") and entry.is_dir(follow_symlinks=False):
                yield entry
        except OSError:  # it vanished meanwhile
            continue


def _problem(database: os.DirEntry[str]) -> str | None:
    try:
        if database.is_symlink():
            return f"{DATABASE} is a link, which is not followed"
        if database.is_dir(follow_symlinks=False):
            return f"{DATABASE} is a folder, not a database"
        if not database.is_file(follow_symlinks=False):
            return f"{DATABASE} is no ordinary file"
    except OSError as error:
        return f"{DATABASE} cannot be read: {error.strerror}"
    return None


def _made(root: Path, path: Path, *, problem: str | None = None, begun: bool = False) -> FoundRun:
    relative = path.relative_to(root)
    key = hashlib.sha256(os.fsencode(relative)).hexdigest()[:16]
    return FoundRun(key, path, visible(relative if relative.parts else path.name), problem, begun)
