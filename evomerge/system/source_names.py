"""What a file of Python code names: the modules that it imports, at any depth, and files that it reads."""

from __future__ import annotations

import ast
import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_IMPORTERS = ("import_module", "__import__")

_WRITERS = ("write_text", "write_bytes", "touch", "mkdir", "unlink")
"""Methods of a path by which its file is made, written or removed."""

_SAVERS = ("FileHandler", "save", "savetxt", "savez", "to_csv", "to_json", "to_parquet", "to_pickle")
"""Functions that write the file that their first or second argument names."""

_LONGEST = 1024
"""Characters of a text that may be the name of a file."""


@dataclass(frozen=True)
class Import:
    """A module that is imported.

    Attributes:
        name: the module's dotted name; relative to a package where `level` says so.
        level: the number of leading dots.
        at_once: whether the module is imported together with the file, rather than when a function is called.
    """

    name: str
    level: int
    at_once: bool


@dataclass(frozen=True)
class SourceNames:
    """What a file of code names.

    Attributes:
        imports: the modules, and the names that are taken from them, which may be modules as well.
        texts: constant texts that may name files or folders, but for those of files that the code itself writes.
    """

    imports: tuple[Import, ...] = ()
    texts: tuple[str, ...] = ()


def source_names(path: Path) -> SourceNames:
    """Return what a file of code names; nothing where it is no Python of this version."""
    try:
        return _named(path.read_bytes())
    except OSError:
        return SourceNames()


@functools.lru_cache(maxsize=256)  # the same few files are asked about for each task
def _named(code: bytes) -> SourceNames:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the user's own text, who sees them when it is imported
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return SourceNames()
    written = _written(tree)
    imports: list[Import] = []
    texts: list[str] = []
    waiting: list[tuple[ast.AST, bool]] = [(tree, True)]
    while waiting:
        node, at_once = waiting.pop()
        imports += _imports(node, at_once)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in written:
            texts += [node.value] if _may_be_name(node.value) else []
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        waiting += [(child, at_once and not inside) for child in ast.iter_child_nodes(node)]
    return SourceNames(tuple(dict.fromkeys(imports)), tuple(dict.fromkeys(texts)))


def _imports(node: ast.AST, at_once: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, 0, at_once)
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        yield Import(module, node.level, at_once)
        for alias in node.names:
            yield Import(f"{module}.{alias.name}".lstrip("."), node.level, at_once)
    elif isinstance(node, ast.Call) and _called(node) in _IMPORTERS and node.args:
        name = node.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            plain = name.value.lstrip(".")
            yield Import(plain, len(name.value) - len(plain), at_once)


def _written(tree: ast.AST) -> set[str]:
    """Return the texts that name files which the code writes: those change without anybody's doing."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    places: list[ast.AST] = []
    for node in calls:
        name, arguments = _called(node), [*node.args, *(keyword.value for keyword in node.keywords)]
        writes = name == "open" and any(map(_is_writing_mode, arguments))
        if (writes or name in _WRITERS) and isinstance(node.func, ast.Attribute):
            places.append(node.func.value)
        if writes or name in _SAVERS:
            places += node.args[:2]
    names = {place.id for place in places if isinstance(place, ast.Name)}
    given = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    places += [
        node.value for node in given if any(isinstance(one, ast.Name) and one.id in names for one in node.targets)
    ]
    return {text for place in places for text in _last_text(place)}


def _last_text(node: ast.AST) -> list[str]:
    """Return the last text in an expression: the name of the file in `folder / "data" / "file"`."""
    found = [one for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    found = [one for one in found if not _is_writing_mode(one)]
    last = max(found, key=lambda one: (one.lineno, one.col_offset), default=None)
    return [] if last is None else [str(last.value)]


def _is_writing_mode(node: ast.AST) -> bool:
    value = node.value if isinstance(node, ast.Constant) else None
    return isinstance(value, str) and 0 < len(value) <= 3 and value[0] in "wax" and set(value[1:]) <= set("bt+")


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", None) or getattr(node.func, "id", None) or ""


def _may_be_name(text: str) -> bool:
    return 0 < len(text) <= _LONGEST and text.isprintable() and not text.isspace() and text != "."
