"""The configuration of a run, shown: what differs from the defaults, what differs between runs, and no secrets.

The defaults are those of `configs/search.yaml` and of the optimizer and executor that the run names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from evomerge.system.config_files import configs_path
from evomerge.system.secrets import secrets_in_data
from evomerge.system.yaml_text import YamlError, read_yaml

SECTIONS = ("optimizer", "execution")
"""Sections of which a configuration names a built-in file."""

_NO_KEYS = ("defaults", "run", "hydra")


def without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in which what looks like a secret is replaced by what it is."""
    hidden = {found.place: f"({found.what}, not shown)" for found in secrets_in_data(config)}
    made = _hidden(config, "", hidden)
    return dict(made) if isinstance(made, Mapping) else {}


def _hidden(value: Any, place: str, hidden: Mapping[str, str]) -> Any:
    if place in hidden:
        return hidden[place]
    if isinstance(value, Mapping):
        return {str(key): _hidden(one, f"{place}.{key}".lstrip("."), hidden) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden(one, f"{place}[{at}]", hidden) for at, one in enumerate(value)]
    return value


def differing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a configuration whose values are not the defaults, as nested mappings.

    What is null or empty where there is no default is left out. An optimizer or executor that is not built in has no
    defaults.
    """
    named = {section: (config.get(section) or {}).get("name") for section in SECTIONS}
    defaults = {**_file("search"), **{section: _file(f"{section}/{name}") for section, name in named.items()}}
    found = _differing({key: value for key, value in config.items() if key not in _NO_KEYS}, defaults)
    for section, name in named.items():
        if section in found and name is not None:
            found[section] = {"name": name, **found[section]}
    return found


def _differing(own: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in own.items():
        default = defaults.get(key)
        if isinstance(value, Mapping):
            inner = _differing(value, default if isinstance(default, Mapping) else {})
            if inner:
                found[key] = inner
        elif value != default and not (default is None and value in (None, [])):
            found[key] = value
    return found


@cache
def _file(name: str) -> Mapping[str, Any]:
    """Return a file of `configs/`; empty where there is none of that name."""
    folder = configs_path().resolve()
    path = (folder / f"{name}.yaml").resolve()  # a run may name anything
    try:
        found = read_yaml(path.read_bytes(), lenient=True) if path.is_relative_to(folder) else {}
    except (OSError, YamlError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}


def flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of nested mappings, like `evaluation.split.test`; lists are values."""
    if isinstance(value, Mapping) and (value or not place):
        for key, one in value.items():
            yield from flat(one, f"{place}.{key}".lstrip("."))
    else:
        yield place, value


def between(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the keys whose values differ between configurations, with the value of each; None: it has none."""
    each = [dict(flat(config)) for config in configs]
    keys = dict.fromkeys(key for own in each for key in own if key.partition(".")[0] not in _NO_KEYS)
    found = {key: [own.get(key) for own in each] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}
