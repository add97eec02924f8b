"""Registries, which find things of one kind by name: built in, in an installed package, or in a user's own file.

Names are listed without importing what they stand for, so that a configuration can be checked before anything heavy
loads.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from evomerge.errors import ConfigError, unknown_name
from evomerge.system.text import error_text

T = TypeVar("T")


class Registry(Generic[T]):
    """The known things of one kind.

    Args:
        kind: the word for one of the things in messages, for example "merge method".
        built_in: name to place, as "module:attribute", in the order of listings.
        group: the entry-point group in which installed packages offer further things, for example "evomerge.methods".
    """

    def __init__(self, kind: str, built_in: Mapping[str, str], *, group: str) -> None:
        self.kind = kind
        self.group = group
        self._built_in = dict(built_in)

    @property
    def names(self) -> tuple[str, ...]:
        """The built-in names in their order, then those of installed packages."""
        return (*self._built_in, *sorted(_entry_points(self.group).keys() - self._built_in.keys()))

    @property
    def built_in(self) -> tuple[str, ...]:
        """The built-in names in their order: the same on every machine."""
        return tuple(self._built_in)

    def all_built_in(self) -> dict[str, T]:
        """Return everything built in by name; all of it is imported."""
        return {name: self.find(name) for name in self._built_in}

    def line(self, name: str) -> str:
        """Return the first sentence about something built in, from its docstring or its module's; nothing is imported.

        It is empty for things from elsewhere, and for things without a docstring.
        """
        module, _, attribute = self._built_in.get(name, "").partition(":")
        found = importlib.util.find_spec(module) if module else None
        if found is None or found.origin is None:
            return ""
        tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
        own = [
            node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == attribute
        ]
        text = (ast.get_docstring(own[0]) if own else ast.get_docstring(tree)) or ""
        return " ".join(text.split("\n\n")[0].split())

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        """Return whether something has this name; a "module:name" is looked up."""
        return isinstance(name, str) and (name in self.names or (":" in name and not self.problems(name)))

    def problems(self, name: str) -> list[str]:
        """Return, in one sentence, why nothing is found under a name; built-in things are not imported."""
        if name in self._built_in:
            return []
        if ":" not in name and name not in _entry_points(self.group):
            return [unknown_name(self.kind, name, self.names)]
        try:
            self.find(name)
        except ConfigError as error:
            return list(error.problems)
        return []

    def find(self, name: str) -> T:
        """Return the thing of a name.

        Args:
            name: a name in the registry, or "module:attribute" or "path/to/file.py:attribute".

        Raises:
            ConfigError: if there is no such thing, or it cannot be imported.
        """
        place = self._built_in.get(name)
        if place is not None:
            # Built-in things can be imported, unless a library is missing, of which its own error says most.
            module, _, attribute = place.partition(":")
            return cast(T, getattr(importlib.import_module(module), attribute))
        offered = _entry_points(self.group).get(name)
        try:
            if offered is not None:
                return cast(T, offered.load())
            if ":" in name:
                return cast(T, load_attribute(name))
        except ConfigError as error:
            raise ConfigError(f"{self.kind} {error}") from error
        except (Exception, SystemExit) as error:  # the package's code may raise anything
            text = " ".join(error_text(error, name=True).split())
            raise ConfigError(f"{self.kind} {name!r} cannot be imported: {text}") from error
        raise ConfigError(unknown_name(self.kind, name, self.names))

    def module(self, name: str) -> ModuleType | None:
        """Return the module that defines the thing of a name; None for built-in things.

        Raises:
            ConfigError: as `find`.
        """
        if name in self._built_in:
            return None
        self.find(name)  # whose errors say what is wrong
        offered = _entry_points(self.group).get(name)
        where = name.rpartition(":")[0] if offered is None else offered.module
        return load_file(Path(where).expanduser()) if where.endswith(".py") else _import(where)


def load_attribute(name: str) -> Any:
    """Import "module:attribute" or "path/to/file.py:attribute" (paths start from the current folder).

    A module is also looked for in the current folder. It runs with all the rights of this process.

    Raises:
        ConfigError: with what is missing, if it cannot be imported.
    """
    where, _, attribute = name.rpartition(":")
    if not where or not attribute.isidentifier():
        raise ConfigError(f"{name!r} must be like 'my_module:my_name' or 'folder/my_file.py:my_name'")
    try:
        module = load_file(Path(where).expanduser()) if where.endswith(".py") else _import(where)
    except (Exception, SystemExit) as error:  # the user's code may raise anything, or be a program that ends here
        text = " ".join(error_text(error, name=True).split())
        raise ConfigError(f"{name!r} could not be imported: {text}") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ConfigError(f"{name!r} cannot be found: {where} has no {attribute!r}") from None


def load_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its own and return the module; the same file is run only once."""
    return _run_file(path.resolve(), path)


@functools.cache
def _run_file(path: Path, shown: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {shown} (paths start from the current folder, {Path.cwd()})")
    spec = importlib.util.spec_from_file_location(f"evomerge_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{shown} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Classes that the file defines are pickled by the name of their module.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _import(module: str) -> ModuleType:
    """Import a module from this environment or, if it is not there, from the current folder."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        beside = Path(*module.split(".")).with_suffix(".py")
        if error.name != module.split(".")[0] or not beside.is_file():
            raise
        return load_file(beside)


@functools.cache
def _entry_points(group: str) -> Mapping[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=group)}
