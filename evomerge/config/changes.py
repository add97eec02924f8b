"""Other values for keys of a configuration whose run is continued, where that cannot change a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evomerge.config.canonical import at_resume
from evomerge.config.keys import declared
from evomerge.config.schema import OF_RAY
from evomerge.config.values import LIMIT
from evomerge.errors import ConfigError, unknown_name


def with_changes(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with other values for some keys.

    Args:
        data: the configuration.
        changes: values by key, as in `{"execution.threads": 2}` or `{"execution": {"threads": 2}}`; a word for a
            section stands for its name, as in `{"execution": "ray"}`.

    Raises:
        ConfigError: with every key that is unknown, that decides results, or that is not changed here.
    """
    made: dict[str, Any] = _copied(data)
    problems: list[str] = []
    for key, value in _flat(changes):
        problem = _problem(key)
        if problem is not None:
            problems.append(problem)
            continue
        *sections, name = (
            ["models", "parents", key.removeprefix(_PARENTS)] if key.startswith(_PARENTS) else key.split(".")
        )
        inner = made
        for section in sections:
            found = inner.get(section)
            # A word stands for the name of its section.
            inner[section] = dict(found) if isinstance(found, Mapping) else {} if found is None else {"name": found}
            inner = inner[section]
        inner[name] = value
        if key == "execution.name" and value == "local":
            for of_ray in OF_RAY:
                inner.pop(of_ray, None)
    if problems:
        raise ConfigError(problems)
    return made


_PARENTS = "models.parents."


def _problem(key: str) -> str | None:
    """Return why a key cannot be changed when a run is continued; None: it can."""
    steps = key.split(".")
    found = declared(steps)
    if found.keys and found.name != key:
        return unknown_name(f"key in {found.name or 'the configuration'}", steps[-1], found.keys)
    reason = at_resume(key)
    if reason == LIMIT:
        return f"`{key}`: limits are given as the `budget`"
    if key == "run.dir":
        return "`run.dir`: a run is continued where it stands; move its folder as you like, and name the folder"
    if reason is None:
        return (
            f"`{key}` decides the results of a search, so it cannot be changed when the run is continued: what differs "
            "there is another search; start it with `evomerge search`"
        )
    return None


def _flat(changes: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in changes.items():
        key = f"{place}{name}"
        found = declared(key.split("."))
        is_section = bool(found.keys) and found.name == key
        if isinstance(value, Mapping) and (is_section or key == _PARENTS.rstrip(".")):
            yield from _flat(value, f"{key}.")
        elif is_section and isinstance(value, str) and "name" in found.keys:
            yield f"{key}.name", value
        else:
            yield key, value


def _copied(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _copied(value) if isinstance(value, Mapping) else value for name, value in data.items()}
