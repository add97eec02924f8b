"""The files that something of a user's stands on: where it is defined, what that imports, and data that it names."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from evomerge.system.source_names import Import, SourceNames, source_names

_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))

_OURS = Path(__file__).resolve().parents[1]

LARGEST_DATA = 64 << 20
"""Bytes of a file that code names, up to which it is taken for data of the code, rather than a model or a data set."""

_KERNEL = tuple(Path(place) for place in ("/proc", "/sys", "/dev"))


def source_files(things: Iterable[Any]) -> dict[str, Path]:
    """Return the files that functions, classes, objects or modules stand on.

    These are the files that define them; the modules that those import, at the top or when a function is called, if
    they stand in the same folder or below, in the folder above, or in the same package; and files of up to
    `LARGEST_DATA` that they name in a constant text, but for those that they write and logs. A helper beside a user's
    function belongs to it, an installed library does not.

    Returns:
        For each file its path by its place: the path from the folder of the thing that led to it, or as the code names
        it, if it is elsewhere.
    """
    found: dict[str, Path] = {}
    for thing in things:
        own = _file_of(thing)
        if own is not None:
            found |= _Search(own).files(_namespace(thing))
    return dict(sorted(found.items()))


def is_installed(path: Path) -> bool:
    """Return whether a file belongs to Python or to an installed package."""
    return any(path.is_relative_to(folder) for folder in _INSTALLED)


class _Search:
    """What one file of code stands on.

    What a function imports when it is called is looked for in folders, and not among the modules of this process,
    which are others before the call and after it.
    """

    def __init__(self, own: Path) -> None:
        self._own = own
        # In an installed package, and in this one, only what stands beside a file belongs to it.
        self._fixed = is_installed(own) or own.is_relative_to(_OURS)
        self._whole = own.parent  # all modules below belong to the file
        while not self._fixed and (self._whole.parent / "__init__.py").is_file():
            self._whole = self._whole.parent
        more = [] if self._fixed else [own.parent.parent, self._whole, self._whole.parent]
        self._roots = list(dict.fromkeys([own.parent, *more]))

    def files(self, names: Mapping[str, Any]) -> dict[str, Path]:
        """Return the files by their places; `names` are those of the module."""
        found: dict[str, Path] = {}
        waiting: list[tuple[Path, Mapping[str, Any] | None]] = [(self._own, names)]
        seen: set[Path] = set()
        while waiting:
            path, names_of = waiting.pop()
            if path in seen:
                continue
            seen.add(path)
            found[self._place(path)] = path
            named = source_names(path)
            folders = self._folders(path, named)
            if names_of is not None:
                loaded = [*_used(names_of), *_loaded(named.imports)]
                waiting += [one for one in loaded if one[0].is_relative_to(self._whole) and self._may_use(one[0])]
            for one in named.imports:
                if not _is_librarys(one, loaded=names_of is not None):
                    waiting += [(file, None) for file in _modules(one, path, folders) if self._may_use(file)]
            for place, file in self._data(named.texts, folders):
                if file.suffix == ".py":
                    waiting.append((file, None))
                else:
                    found.setdefault(place, file)
        return found

    def _place(self, path: Path) -> str:
        return Path(os.path.relpath(path, self._own.parent)).as_posix()

    def _is_near(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in self._roots)

    def _may_use(self, path: Path) -> bool:
        """Return whether a file is part of what stands around the first one, rather than of a library."""
        if is_installed(self._own):
            return self._own.parent not in _INSTALLED and path.is_relative_to(self._own.parent)
        return not (is_installed(path) or path.is_relative_to(_OURS))

    def _folders(self, path: Path, named: SourceNames) -> list[Path]:
        """Return the folders in which modules and files may stand that a file of code names.

        Those are its own, those around the first file, and those in them that a text names, as in
        `Path(__file__).parent / "data" / "gold.json"`.
        """
        searched = [one for one in map(_resolved, sys.path) if one is not None and one.is_relative_to(self._whole)]
        found = list(dict.fromkeys([path.parent, *self._roots, *searched]))
        for folder in found:  # which grows
            for text in named.texts:
                inner = _below(folder, text, Path.is_dir)
                if inner is not None and inner not in found and self._is_near(inner):
                    found.append(inner)
        return found

    def _data(self, texts: Iterable[str], folders: Iterable[Path]) -> Iterator[tuple[str, Path]]:
        """Yield the files that texts name, with their places."""
        for text in texts:
            if text.endswith(".log"):
                continue
            here = [] if self._fixed or "." not in text else [Path.cwd()]
            for file in (_below(folder, text, Path.is_file) for folder in [*folders, *here]):
                if file is not None and _is_data(file) and self._may_use(file):
                    yield self._place(file) if self._is_near(file) else f"{text} of the current folder", file
            if Path(text).is_absolute() and not self._fixed:
                file = _below(Path("/"), text, Path.is_file)
                if file is not None and _is_data(file) and self._may_use(file):
                    yield self._place(file) if self._is_near(file) else text, file


def _used(names: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield file and names of the modules that stand behind the values of a module's names."""
    for value in list(names.values()):
        module = value if isinstance(value, ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
        yield from _as_loaded(module)


def _loaded(imports: Iterable[Import]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield file and names of the modules that were imported together with a file."""
    for one in imports:
        if one.at_once and not one.level:
            for name in _packages(one.name):
                yield from _as_loaded(sys.modules.get(name))


def _as_loaded(module: ModuleType | None) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    path = None if module is None else _path(getattr(module, "__file__", None))
    if module is not None and path is not None:
        yield path, vars(module)


def _modules(one: Import, path: Path, folders: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of a module that is imported by a file, and of the packages around it."""
    if one.level:
        start = path.parents[one.level - 1] if one.level <= len(path.parents) else path.parent
        folders = [start]
        if (start / "__init__.py").is_file():
            yield (start / "__init__.py").resolve()
    for folder in folders:
        for name in _packages(one.name):
            place = folder.joinpath(*name.split("."))
            for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
                if file.is_file():
                    yield file.resolve()


def _packages(name: str) -> Iterator[str]:
    """Yield "a", "a.b" and "a.b.c" for "a.b.c"."""
    parts = [part for part in name.split(".") if part]
    for n in range(len(parts)):
        yield ".".join(parts[: n + 1])


def _is_librarys(one: Import, *, loaded: bool) -> bool:
    """Return whether an import is that of an installed library, whatever stands beside the file that imports it."""
    first = one.name.partition(".")[0]
    module = sys.modules.get(first) if loaded and one.at_once else None
    file = getattr(module, "__file__", None)
    return not one.level and (first in sys.stdlib_module_names or (file is not None and is_installed(Path(file))))


def _below(folder: Path, text: str, is_right: Callable[[Path], bool]) -> Path | None:
    """Return the file or folder that a text names in a folder, as in `folder / "a.json"` or `f"{folder}/a.json"`."""
    place = folder / text.lstrip("/")
    try:
        return _resolved(place) if is_right(place) else None
    except OSError:  # too long for a name
        return None


def _resolved(path: str | Path) -> Path | None:
    try:
        return Path(path).resolve()
    except (OSError, ValueError, RuntimeError):  # links in a circle
        return None


def _is_data(path: Path) -> bool:
    """Return whether a file is small enough, and none of those by which the kernel speaks."""
    return path.stat().st_size <= LARGEST_DATA and not any(map(path.is_relative_to, _KERNEL))


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
