"""The files of code that something of a user's stands on: where it is defined, and what that imports from beside it."""

from __future__ import annotations

import functools
import inspect
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))

_OURS = Path(__file__).resolve().parents[1]


def source_files(things: Iterable[Any]) -> dict[str, Path]:
    """Return the files of code that functions, classes, objects or modules stand on.

    These are the files that define them, and, of the modules that those files use, the ones in the same folder or
    below: a helper beside a user's function belongs to it, an installed library does not.

    Returns:
        For each file its path by its place: the path from the folder of the thing that led to it.
    """
    found: dict[str, Path] = {}
    for thing in things:
        own = _file_of(thing)
        if own is None:
            continue
        waiting: list[tuple[Path, Mapping[str, Any]]] = [(own, _namespace(thing))]
        seen: set[Path] = set()
        while waiting:
            path, names = waiting.pop()
            if path in seen:
                continue
            seen.add(path)
            found[path.relative_to(own.parent).as_posix()] = path
            waiting += [one for one in _used(names) if _belongs(one[0], own)]
    return dict(sorted(found.items()))


def is_installed(path: Path) -> bool:
    """Return whether a file belongs to Python or to an installed package."""
    return any(path.is_relative_to(folder) for folder in _INSTALLED)


def _belongs(path: Path, own: Path) -> bool:
    """Return whether a file is part of what stands around another file, rather than a library below the same folder."""
    if not path.is_relative_to(own.parent) or own.parent in _INSTALLED:
        return False
    return is_installed(own) or not (is_installed(path) or path.is_relative_to(_OURS))


def _used(names: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield file and names of the modules that stand behind the values of a module's names."""
    for value in list(names.values()):
        module = value if isinstance(value, ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
        path = None if module is None else _path(getattr(module, "__file__", None))
        if module is not None and path is not None:
            yield path, vars(module)


def _file_of(thing: Any) -> Path | None:
    thing = _function(thing)
    if isinstance(thing, ModuleType):
        return _path(getattr(thing, "__file__", None))
    if not inspect.isfunction(thing) and not isinstance(thing, type):
        thing = type(thing)
    try:
        return _path(inspect.getsourcefile(thing))
    except TypeError:  # written in C, or of a module that nobody registered
        method = _method(thing)
        return None if method is None else _path(method.__code__.co_filename)


def _namespace(thing: Any) -> Mapping[str, Any]:
    thing = _function(thing)
    if isinstance(thing, ModuleType):
        return vars(thing)
    if inspect.isfunction(thing):
        return thing.__globals__
    kind = thing if isinstance(thing, type) else type(thing)
    module = sys.modules.get(kind.__module__)
    if module is not None:
        return vars(module)
    method = _method(kind)
    return {} if method is None else method.__globals__


def _method(kind: Any) -> Any:
    """Return a method that a class defines itself, or None."""
    return next((one for one in getattr(kind, "__dict__", {}).values() if inspect.isfunction(one)), None)


def _function(thing: Any) -> Any:
    while isinstance(thing, functools.partial):
        thing = thing.func
    return getattr(inspect.unwrap(thing) if callable(thing) else thing, "__func__", thing)


def _path(name: str | None) -> Path | None:
    return Path(name).resolve() if name and name.endswith(".py") and Path(name).is_file() else None
