"""The names that lm-eval knows, as the index of its `TaskManager` finds them; the only reader of its files.

lm-eval parses all of its 14,000 YAML files to learn their names (7 s). What it finds is kept in the user's cache folder
and used again while the version of lm-eval, its folder, and the sizes and times of the files there are the same. Local
folders are read anew each time, unless they are as large as that.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from evomerge.errors import ConfigError
from evomerge.evaluation.quiet import quiet
from evomerge.system.cache_file import read_cached, write_cached

Kind: TypeAlias = Literal["task", "group", "tag"]

_KINDS: dict[str, Kind] = {"TASK": "task", "PY_TASK": "task", "GROUP": "group", "TAG": "tag"}
_FORM = "1"
"""The form in which entries are kept; another one makes older files useless."""

TOO_NEW = (0, 5)
"""The first version of lm-eval whose tasks cannot be read."""

_LARGE = 300
"""From so many YAML files on, what is found in a folder is kept; fewer are read in a tenth of a second."""

_DEEPEST, _MOST = 100, 1_000_000
"""How many levels and values a task's YAML may have, with its aliases written out."""

_NEVER_INCLUDED = (".py", ".pyc", ".md", ".txt", ".jsonl", ".csv", ".arrow", ".parquet", ".lock")


@dataclass(frozen=True)
class Entry:
    """A name that lm-eval knows.

    Attributes:
        path: the YAML file; None for a tag, which has none of its own.
        listed: for a group or tag, the names of its members in lm-eval's order; a group that is defined within the
            group as `[name, its members]`.
        adapts: whether a group changes settings of its members.
    """

    name: str
    kind: Kind
    path: Path | None
    listed: Sequence[Any] = field(default_factory=tuple)
    adapts: bool = False


def function_files(config: Any) -> set[Path]:
    """Return the files beside a task's YAML in which the functions stand that the result of `load` names."""
    if isinstance(config, Mapping):
        return {file for value in config.values() for file in function_files(value)}
    if isinstance(config, list):
        return {file for value in config for file in function_files(value)}
    if function_name(config) is None:
        return set()
    folder, _, dotted = str(config).rpartition(os.sep)
    file = Path(folder, *dotted.split(".")[:-1]).with_suffix(".py")
    return {file} if file.is_file() else set()


def version_problem() -> str | None:
    """Return a sentence if the installed lm-eval is one whose tasks cannot be read, or is missing; else None."""
    try:
        version = importlib.metadata.version("lm_eval")
    except importlib.metadata.PackageNotFoundError:
        return "lm-eval is not installed; run `pip install 'lm-eval>=0.4.13,<0.5'`"
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) >= TOO_NEW:
        return (
            f"lm-eval {version} has another API than 0.4, by which tasks are read here; run `pip install 'lm-eval<0.5'`"
        )
    return None


def built_in() -> dict[str, Entry]:
    """Return the names of lm-eval's own tasks, groups and tags.

    Raises:
        ConfigError: if lm-eval is not installed.
    """
    return _built_in(_own_folder())


def local(path: Path) -> dict[str, Entry]:
    """Return the names in a folder of the user (or a single file); a path that is not there has none."""
    path = path.absolute()
    if path.is_file():
        return _of_file(path)
    files = yaml_files(path)
    return _folder(path, str(path)) if len(files) >= _LARGE else _read(path)


def yaml_files(folder: Path) -> list[Path]:
    """Return the files in a folder that lm-eval reads, in its order; a single file is itself."""
    if folder.is_file():
        return [folder]
    from lm_eval.tasks._index import TaskIndex

    return list(TaskIndex._iter_yaml_files(folder))


def load(path: Path) -> dict[str, Any]:
    """Return a task's YAML with its `include`s merged, as lm-eval reads it; no code is run.

    A `!function` becomes text: the function's file without its suffix, a dot, and its name.

    Raises:
        ConfigError: if a file is missing or not YAML; the message names it.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        loaded: dict[str, Any] = load_yaml(path, resolve_func=False)
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    except Exception as error:  # what the YAML library raises, and lm-eval's for circles
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    unsound = _unsound(loaded)
    if unsound is not None:
        raise ConfigError(f"{path} (or a file that it includes) {unsound}")
    return loaded


def function_name(value: Any) -> str | None:
    """Return the name of the function that a value of `load` stands for; None if it is an ordinary value."""
    text = str(value) if isinstance(value, str) else ""
    return text.rpartition(".")[2] if Path(text).is_absolute() else None


def _unsound(value: Any) -> str | None:
    """Return why parsed YAML cannot be walked through: its aliases may lead back to themselves, or multiply."""
    sizes: dict[int, tuple[int, int]] = {}  # id of a container: how many levels and values are in it

    def measure(one: Any, above: int) -> tuple[int, int]:
        if not isinstance(one, (Mapping, list, tuple, set)):
            return 0, 1
        if id(one) not in sizes:
            if above >= _DEEPEST:  # an alias that leads back gets here, too
                raise RecursionError
            inner = [measure(each, above + 1) for each in (one.values() if isinstance(one, Mapping) else one)]
            sizes[id(one)] = (1 + max((deep for deep, _ in inner), default=0), 1 + sum(many for _, many in inner))
        return sizes[id(one)]

    try:
        levels, values = measure(value, 0)
    except RecursionError:
        levels, values = _DEEPEST + 1, 0
    if levels > _DEEPEST:
        return f"is nested more than {_DEEPEST} levels deep, or has an alias (*name) within its own anchor (&name)"
    return f"has more than {_MOST:,} values, its aliases (*name) written out" if values > _MOST else None


@functools.cache
def _built_in(folder: Path) -> dict[str, Entry]:
    return _folder(folder, importlib.metadata.version("lm_eval"))


def _own_folder() -> Path:
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise ConfigError("lm-eval is not installed; run `pip install 'lm-eval[hf]'`")
    return Path(spec.origin).parent / "tasks"


def _folder(folder: Path, label: str) -> dict[str, Entry]:
    """Return the names in a large folder, from the cache if nothing there changed."""
    name = f"tasks-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.json"
    stamp = _stamp(folder, label)
    kept = read_cached(name, stamp)
    if kept is not None:
        return {
            name: Entry(name, kind, None if path is None else folder / path, listed, adapts)
            for name, (kind, path, listed, adapts) in kept.items()
        }
    found = _read(folder)
    rows = {
        one.name: (one.kind, None if one.path is None else os.path.relpath(one.path, folder), one.listed, one.adapts)
        for one in found.values()
    }
    write_cached(name, stamp, rows)
    return found


def _stamp(folder: Path, label: str) -> str:
    """Return what identifies the content of a folder: names, sizes and times of its files, lm-eval and the interpreter.

    Nearly any file may be included by another, whatever its name.
    """
    digest = hashlib.sha256()
    for said in (_FORM, label, importlib.metadata.version("lm_eval"), platform.python_version(), str(folder)):
        digest.update(f"{said}\0".encode())
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if one != "__pycache__")
        for file in sorted(files):
            if file.endswith(_NEVER_INCLUDED):
                continue
            try:
                status = Path(where, file).stat()
                known = f"{status.st_size} {status.st_mtime_ns}"
            except OSError:  # a link to nowhere
                known = ""
            digest.update(os.fsencode(f"{where}/{file}\0{known}\0"))
    return digest.hexdigest()


def _read(folder: Path) -> dict[str, Entry]:
    from lm_eval.tasks._index import TaskIndex

    with quiet():  # not a `TaskManager`, which fails on a name that is a number
        return _entries(TaskIndex.build([folder]))


def _of_file(path: Path) -> dict[str, Entry]:
    from lm_eval.tasks._index import TaskIndex

    found: dict[str, Any] = {}
    try:
        with quiet():
            TaskIndex.process_cfg(load(path), path, found)
    except Exception:  # lm-eval likewise skips a file that it cannot read; `TaskCatalog.broken_files` tells
        return {}
    return _entries(found)


def _entries(index: Mapping[Any, Any]) -> dict[str, Entry]:
    """Return lm-eval's entries as plain data; names that are no text can be asked for by nobody."""
    entries = {}
    for name, one in index.items():
        kind = _KINDS.get(one.kind.name)
        if not isinstance(name, str) or kind is None:
            continue
        path = None if one.yaml_path is None else Path(one.yaml_path)
        if kind == "group":
            told = one.cfg or {}
            if _unsound(told) is not None:  # as a file that cannot be read
                continue
            entries[name] = Entry(name, kind, path, _members(told.get("task")), _adapts(told))
        else:
            entries[name] = Entry(name, kind, path, sorted(one.tags) if kind == "tag" else [])
    return entries


def _members(listed: Any) -> list[Any]:
    """Return the members that a group's `task` lists; lm-eval takes nothing but a list."""
    members: list[Any] = []
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, str):
            members.append(one)
        elif isinstance(one, Mapping) and isinstance(one.get("group"), str):
            members.append([one["group"], _members(one.get("task"))])
        elif isinstance(one, Mapping) and isinstance(one.get("task"), str):
            members.append(one["task"])
    return members


def _adapts(config: Mapping[str, Any]) -> bool:
    """Return whether a group, or one of its own subgroups, changes settings of its members."""
    from dataclasses import fields

    from lm_eval.config.group import GroupConfig

    of_groups = {one.name for one in fields(GroupConfig)} | {"include"}
    listed: Iterable[Any] = config["task"] if isinstance(config.get("task"), list) else ()
    inner = [one for one in listed if isinstance(one, Mapping)]
    return any(key not in of_groups for key in config) or any(
        _adapts(one) if "group" in one else bool(set(one) - {"task", "task_alias"}) for one in inner
    )
