"""The options of what a configuration names: further keys of `optimizer` and `strategy`, each as its class declares it.

A class lists its options in `OPTIONS`; their types and defaults are those of its arguments, and what they mean stands
in its docstring. So nothing is said twice.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.config.keys import Key
from evomerge.config.names import optimizers, strategies

_JSON_TYPES = {"bool": "boolean", "int": "integer", "float": "number", "str": "string"}


@dataclass(frozen=True)
class OptionKey(Key):
    """A key that only some of the things have that its section may name.

    Attributes:
        of: what it means, by the name of each built-in thing that has it. The `default` is a mapping by these names
            where they differ.
    """

    of: Mapping[str, str]


@functools.cache
def option_keys() -> Mapping[str, OptionKey]:
    """Return the options of everything built in, by their keys, like `optimizer.sigma`."""
    found: dict[str, dict[str, type[Any]]] = {}
    for section, registry in (("optimizer", optimizers()), ("strategy", strategies())):
        for name, owner in registry.all_built_in().items():
            for option in owner.OPTIONS:
                found.setdefault(f"{section}.{option}", {})[name] = owner
    return {key: _key(key, owners) for key, owners in found.items()}


def _key(key: str, owners: Mapping[str, type[Any]]) -> OptionKey:
    option = key.rpartition(".")[2]
    arguments = {name: inspect.signature(owner).parameters[option] for name, owner in owners.items()}
    defaults = {name: argument.default for name, argument in arguments.items()}
    same = all(default == next(iter(defaults.values())) for default in defaults.values())
    words = [word for argument in arguments.values() for word in re.findall(r"\w+", str(argument.annotation))]
    return OptionKey(
        name=key,
        type="|".join(dict.fromkeys(_JSON_TYPES[word] for word in words if word in _JSON_TYPES)) or "any",
        must="",
        default=next(iter(defaults.values())) if same else defaults,
        low=None,
        high=None,
        words={},
        registry=None,
        help=f"an option of {', '.join(owners)}",
        more="",
        required=False,
        missing=None,
        at_resume=None,
        keys=(),
        open=False,
        of={name: _meaning(owner, option) for name, owner in owners.items()},
    )


def _meaning(owner: type[Any], argument: str) -> str:
    """Return what the docstring of a class says about an argument, in one line."""
    text = re.search(rf"^    {argument}: (.*(?:\n {{8}}.*)*)", inspect.getdoc(owner) or "", flags=re.MULTILINE)
    return " ".join(text[1].split()).replace("None:", "null:") if text else ""
