"""What a configuration says, however it was written: every key with the value that counts, in one flat mapping."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from evomerge.config.keys import declared, steps_of
from evomerge.config.reader import read_keys
from evomerge.config.values import EFFECT

_OWN = re.compile(r"(python:)?(?:.*/)?([^/]+\.py:\w+)")
"""The name of something in a user's file. Where the file stands does not count, since its content is compared."""


def canonical(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration says: keys like `space.genes.weight.high`, with plain values.

    Keys that are left out have their defaults, aliases and short forms are spelled out, and what is null is left out.
    So two configurations that say the same are equal.

    Args:
        data: the composed configuration.
    """
    return dict(flat(_plain(read_keys(data))))


def shown(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration says as `canonical` does, with the text of references in place of their values."""
    texts = {name: value for name, value in flat(data) if isinstance(value, str) and "${" in value}
    return {name: texts.get(name, value) for name, value in canonical(data).items()}


def deciding(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that decide results, as `canonical` has them."""
    return {name: value for name, value in canonical(data).items() if at_resume(name) in (None, EFFECT)}


def at_resume(key: str) -> str | None:
    """Return why a key may be changed when a run is continued; None: it may not. See `evomerge.config.values.key`.

    Args:
        key: a key as in `canonical`; what stands below a declared key is changed as that is.
    """
    return declared(steps_of(key)).at_resume


def _plain(value: Any) -> Any:
    """Return a value as YAML would have it, with short forms spelled out."""
    if isinstance(value, BaseModel):
        named = {name: getattr(value, name) for name in type(value).model_fields}
        return {name: _plain(one) for name, one in {**named, **(value.model_extra or {})}.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and (own := _OWN.fullmatch(value)):
        return (own[1] or "") + own[2]
    return str(value) if isinstance(value, Path) else value


def flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of nested mappings and lists of mappings, like `evaluation.tasks[0].name`.

    What is null is left out.
    """
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from flat(one, f"{place}.{name}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        for i, one in enumerate(value):
            yield from flat(one, f"{place}[{i}]")
    elif value is not None:
        yield place, value
