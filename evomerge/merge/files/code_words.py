"""The names that the code of a model mentions: a setting that is not among them cannot change what it computes."""

from __future__ import annotations

import inspect
import re
import sys
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from torch import nn

_MENTIONS = re.compile(r"\.\s*([A-Za-z_]\w*)|[\"']([A-Za-z_]\w*)[\"']")
"""An attribute (`config.name`) or a name in quotes (`getattr(config, "name")`)."""

_SHARED = ("transformers.cache_utils", "transformers.masking_utils")
"""Modules that read a configuration which a model hands to them."""


def code_words(model: nn.Module) -> frozenset[str] | None:
    """Return the attributes and quoted names in the code that computes a model; None if some of it cannot be read.

    It is the source of the modules of all its classes, with that of the functions which they import from transformers,
    and of properties and methods of its configuration that are mentioned there.
    """
    names = {type(module).__module__ for module in model.modules()}
    own = {name for name in names if name.partition(".")[0] != "torch"}
    packages = {name.rpartition(".")[0] for name in own if name.startswith("transformers_modules.")}
    own |= {name for name in sys.modules if name.rpartition(".")[0] in packages}  # files that custom code imports
    words: set[str] = set()
    for name in own | {name for name in _SHARED if name in sys.modules}:
        found = _words_of(sys.modules.get(name))
        if found is None:
            return None
        words |= found
    for name in {each for one in own for each in _helpers(sys.modules[one])}:
        words |= _words_of(sys.modules.get(name)) or frozenset()
    return frozenset(words | _derived(type(getattr(model, "config", None)), words))


def other_code(one: nn.Module, other: nn.Module) -> list[str]:
    """Return the files of custom code with which two models come and that differ; empty where they come with none."""
    mine, theirs = _custom_code(one), _custom_code(other)
    return sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))


def _custom_code(model: nn.Module) -> dict[str, str]:
    """Return the text of each file of custom code that a model uses, by its name."""
    names = {type(module).__module__ for module in model.modules()}
    found = {}
    for name in names:
        if name.startswith("transformers_modules."):
            path = Path(str(inspect.getsourcefile(sys.modules[name])))
            found[path.name] = path.read_text("utf-8", errors="replace") if path.is_file() else ""
    return found


def _words_in(text: str) -> set[str]:
    return {attribute or quoted for attribute, quoted in _MENTIONS.findall(text)}


@cache
def _words_of(module: ModuleType | None) -> frozenset[str] | None:
    try:
        return (
            None
            if module is None
            else frozenset(_words_in(Path(str(inspect.getsourcefile(module))).read_text("utf-8")))
        )
    except (OSError, TypeError, UnicodeDecodeError):
        return None


def _helpers(module: ModuleType) -> set[str]:
    """Return the modules of transformers from which a module imports functions that take a configuration."""
    return {
        value.__module__
        for value in vars(module).values()
        if isinstance(value, FunctionType)
        and value.__module__.startswith("transformers.")
        and "config" in value.__code__.co_varnames
    }


def _derived(config: type[Any], words: set[str]) -> set[str]:
    """Return what properties and methods of a configuration mention, if their own names are mentioned."""
    found: set[str] = set()
    for kind in config.__mro__:
        if kind.__module__ in ("builtins", "transformers.configuration_utils"):
            continue
        for name, value in vars(kind).items():
            code = value.fget if isinstance(value, property) else value
            if name in words and isinstance(code, FunctionType):
                try:
                    found |= _words_in(inspect.getsource(code))
                except (OSError, TypeError):
                    continue
    return found
