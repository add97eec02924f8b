"""References in a configuration, `${oc.env:HF_TOKEN}`: text where it is kept, a value only where it is used.

What a run keeps (config.yaml, database, log, what is exported) has the text of a reference, so that a secret that comes
from the environment is written nowhere, and a run that is continued takes it from the environment then. References to
other keys of the configuration (`${seed}`) and those of Hydra (`${now:%Y}`) are values from the beginning.

The grammar and the resolvers are OmegaConf's; it is loaded only where there is a reference.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.system.secrets import is_secret_place, looks_secret, remember

AT_ONCE = frozenset(
    {"hydra", "now", "python_version", "oc.create", "oc.deprecated", "oc.select", "oc.dict.keys", "oc.dict.values"}
)
"""Resolvers of the configuration itself. Every other one asks the world outside, and is kept as text."""

_BEGIN = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*:")
_PLAIN_ARGUMENT = re.compile(r"[A-Za-z_/][\w./+@%-]*")
_WORDS = {"null", "true", "false", "nan", "inf"}


def resolved(data: Any, place: str = "") -> tuple[Any, list[str]]:
    """Return plain data with the values of its references, and a sentence for each that has none.

    A value that is a secret, by its look or its place, is remembered, so that no message shows it (`secrets.hide`).

    Args:
        data: mappings, lists and plain values.
        place: the key under which the data stands.
    """
    problems: list[str] = []

    def visit(value: Any, here: str) -> Any:
        if isinstance(value, Mapping):
            return {key: visit(inner, f"{here}.{key}".lstrip(".")) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [visit(inner, f"{here}[{i}]") for i, inner in enumerate(value)]
        if not isinstance(value, str) or _BEGIN.search(value) is None:
            return value
        try:
            return _value(value, here)
        except ValueError as error:
            problems.append(f"{here}: {error}")
            return value

    return visit(data, place), problems


def _value(text: str, place: str) -> Any:
    """Return a text with the values of its references; the value itself where it is one reference and nothing else.

    Raises:
        ValueError: if a reference has no value.
    """
    parts: list[Any] = []
    end = 0
    for start, stop in _references(text):
        parts += [text[end:start]] if text[end:start] else []
        reference = text[start:stop]
        value = _ask(reference)
        if isinstance(value, str) and (is_secret_place(place) or _names_secret(reference) or looks_secret(value)):
            remember(value, reference)
        parts.append(value)
        end = stop
    parts += [text[end:]] if text[end:] else []
    return parts[0] if len(parts) == 1 else "".join(map(str, parts))


def _ask(reference: str) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(OmegaConf.create({"value": reference}), resolve=True)["value"]  # type: ignore[call-overload,index]
    except OmegaConfBaseException as error:
        text = str(error)
        variable = re.search(r"Environment variable '([^']*)' not found", text)
        if variable:
            raise ValueError(
                f"{reference} has no value: the environment variable {variable[1]} is not set here; set it (a run "
                "keeps the reference, not the value)"
            ) from None
        unknown = re.search(r"Unsupported interpolation type (\S+)", text)
        if unknown:
            raise ValueError(f"{reference} has no value: nothing here resolves {unknown[1]!r}") from None
        raise ValueError(f"{reference} has no value: {text.splitlines()[0]}") from None


def _references(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each outermost reference begins and ends."""
    end = 0
    for found in _BEGIN.finditer(text):
        if found.start() >= end:
            stop = _closing(text, found.end())
            if stop is not None:
                end = stop
                yield found.start(), stop


def _closing(text: str, start: int) -> int | None:
    """Return the end of the reference whose arguments begin at `start`; None: it has no end."""
    depth, quote, i = 1, "", start
    while i < len(text):
        if text[i] == "\\":
            i += 1
        elif quote:
            quote = "" if text[i] == quote else quote
        elif text[i] in "'\"":
            quote = text[i]
        elif text[i] in "{}":
            depth += 1 if text[i] == "{" else -1
            if depth == 0:
                return i + 1
        i += 1
    return None


def _names_secret(reference: str) -> bool:
    """Return whether the name of what is referred to is that of a secret."""
    return any(is_secret_place(word) for word in re.findall(r"[\w.]+", reference.partition(":")[2]))


@contextlib.contextmanager
def as_text() -> Iterator[None]:
    """Let OmegaConf resolve a reference to the world outside to the text of that reference, while the context lasts."""
    from omegaconf.basecontainer import BaseContainer

    resolvers = BaseContainer._resolvers
    before = dict(resolvers)
    for name in before:
        if name not in AT_ONCE:
            resolvers[name] = _spelling(name)
    try:
        yield
    finally:
        resolvers.clear()
        resolvers.update(before)


def _spelling(name: str) -> Any:
    def spelled(config: Any, parent: Any, node: Any, args: Sequence[Any], args_str: Sequence[str]) -> str:
        del config, parent, node, args_str
        return f"${{{name}:{','.join(map(_argument, args))}}}"

    return spelled


def _argument(value: Any) -> str:
    """Return a value as an argument of a reference."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_argument(key)}:{_argument(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_argument, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if not isinstance(value, str) or (_PLAIN_ARGUMENT.fullmatch(text) and text.lower() not in _WORDS):
        return text
    whole = next(_references(text), None)
    if whole == (0, len(text)):
        return text
    return "'" + re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", text) + "'"
