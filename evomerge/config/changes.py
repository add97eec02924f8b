"""Other values for keys of a configuration whose run is continued, where that cannot change a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evomerge.config.canonical import at_resume
from evomerge.config.keys import Key, declared, steps_of, undeclared
from evomerge.config.schema import OF_RAY
from evomerge.config.values import LIMIT
from evomerge.errors import ConfigError


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
    unknown = undeclared(steps_of(key))
    if unknown is not None:
        return unknown
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
        found = _section(key)
        is_section = found is not None
        if isinstance(value, Mapping) and (is_section or key == _PARENTS.rstrip(".")):
            yield from _flat(value, f"{key}.")
        elif found is not None and isinstance(value, str) and "name" in found.keys:
            yield f"{key}.name", value
        else:
            yield key, value


def _section(key: str) -> Key | None:
    """Return the section of that name; None: it is no section."""
    steps = steps_of(key)
    found = declared(steps)
    return found if found.keys and declared(steps[:-1]) is not found else None


def _copied(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _copied(value) if isinstance(value, Mapping) else value for name, value in data.items()}
