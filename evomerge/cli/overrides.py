"""Overrides as people type them: what Hydra's grammar cannot read, or would read as something else, is taken as text.

Hydra reads `key=value` by a grammar of its own, in which "=", commas, brackets and letters of most scripts mean
something or are not allowed. A folder is called `epoch=3-step=100` or `日本語` all the same. Where the configuration
declares text, a value is text as typed; elsewhere a value that is no grammar is text too, unless it looks like a list
or a mapping with a slip in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, ValueType
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evomerge.config.keys import takes_text
from evomerge.system.text import visible
from evomerge.system.yaml_text import YamlError, read_yaml

_WORD = re.compile(r"(?P<sign>\+{0,2})(?P<key>[^=]*)=(?P<value>.*)", flags=re.DOTALL)

_TEXTS = (str, QuotedString)


@dataclass
class Overrides:
    """Overrides in a form that Hydra can read.

    Attributes:
        words: for Hydra, in their order.
        own: keys that Hydra's grammar cannot name, as places with values; they are set when all is composed.
        problems: one sentence for each override that cannot be read.
    """

    words: list[str] = field(default_factory=list)
    own: list[tuple[tuple[str, ...], Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_overrides(words: Sequence[str], *, groups: Sequence[str], sweep: bool) -> Overrides:
    """Return overrides as Hydra can read them.

    Args:
        words: as they were typed.
        groups: the names for which a value names a file, as in `optimizer=cma`.
        sweep: whether values with commas are several searches.
    """
    found = Overrides()
    parser = OverridesParser.create()
    for word in words:
        said = _WORD.fullmatch(word)
        if said is None:  # ~key
            if _parsed(parser, word) is None:
                found.problems.append(f"`{visible(word)}` is no override; write key=value, +key=value or ~key")
            else:
                found.words.append(word)
            continue
        _read(found, parser, said, groups=groups, sweep=sweep)
    return found


def _read(
    found: Overrides, parser: OverridesParser, said: re.Match[str], *, groups: Sequence[str], sweep: bool
) -> None:
    sign, key, value = said["sign"], said["key"], said["value"]
    shown = visible(value, most=200)
    if not key.strip():
        found.problems.append(f"`{visible(said[0])}` has no key before its =; write key=value")
        return
    of_group = key.partition("@")[0] in groups or "/" in key
    place: tuple[str, ...] = tuple(key.split("."))
    typed = _parsed(parser, f"{key}={value}")
    is_text = not of_group and takes_text(place)
    if _parsed(parser, f"{key}=0") is None:  # a key that the grammar cannot name, like a parent's in another script
        value_read = _parsed(parser, f"x={value}")
        plain = value_read is not None and not value_read.is_sweep_override() and not is_text
        found.own.append((place, _plain(value_read.value()) if plain and value_read is not None else value))
        return
    if not of_group and not is_whole(value):
        found.problems.append(
            f"`{key}={shown}` holds a reference that is not whole; write it like ${{seed}}, or the signs themselves as "
            "\\${"
        )
        return
    if typed is None and of_group:
        found.words.append(said[0])  # no choice of this name: the composer says which there are
        return
    if typed is None:
        listed = _by_yaml(value, place)
        if listed is not None and not is_text:
            found.own.append((place, listed))
        elif is_text or not value.lstrip().startswith(("[", "{")):
            found.words.append(_literal(sign, key, value))
        else:
            found.problems.append(
                f"`{key}={shown}` cannot be read as a list or mapping; text inside of it that holds "
                f"signs or other scripts goes in quotes: '{key}=[{{name: \"…\"}}]'"
            )
        return
    if typed.is_sweep_override():
        if sweep:
            found.words.append(said[0])
        elif is_text and typed.value_type == ValueType.SIMPLE_CHOICE_SWEEP:
            found.words.append(_literal(sign, key, value))
        else:
            found.problems.append(
                f"`{key}={shown}` is several values: add -m for a search with each of them, or write "
                f"[{shown}] for a list, or quote it for text: \"{key}='{shown}'\""
            )
        return
    if of_group or key.startswith("hydra"):
        found.words.append(said[0])
        return
    # Hydra takes no key that the built-in files do not name; the configuration's own check names the nearest one.
    sign = sign if sign or typed.package is not None else "++"
    found.words.append(_as_meant(sign, key, value, typed, is_text=is_text, place=place))


def _as_meant(sign: str, key: str, value: str, typed: Override, *, is_text: bool, place: tuple[str, ...]) -> str:
    """Return an override whose value is text where text is meant."""
    read = typed.value()
    if is_text and not isinstance(read, (*_TEXTS, dict)) and read is not None:
        listed = isinstance(read, list) and takes_text((*place, 0))
        if not listed:
            return _literal(sign, key, value)
    if (
        isinstance(read, list)
        and takes_text((*place, 0))
        and not all(isinstance(one, (str, QuotedString)) for one in read)
    ):
        names = _by_yaml(value, place)
        if isinstance(names, list) and all(isinstance(one, str) for one in names):
            return f"{sign}{key}=[{','.join(map(_quoted, names))}]"
    return f"{sign}{key}={value}"


def _by_yaml(value: str, place: tuple[str, ...]) -> list[Any] | dict[str, Any] | None:
    """Return a list or mapping that YAML can read, which takes letters of all scripts; None: it cannot either."""
    try:
        read = read_yaml(value, text_at=lambda inner: takes_text((*place, *inner)), lenient=True)
    except YamlError:
        return None
    return read if isinstance(read, (list, dict)) and not _has_glued_keys(read) else None


def _has_glued_keys(data: Any) -> bool:
    """Return whether a key was read together with its value: {name:x} without a space is one word in YAML."""
    if isinstance(data, dict):
        return any((":" in key and one is None) or _has_glued_keys(one) for key, one in data.items())
    return isinstance(data, list) and any(_has_glued_keys(one) for one in data)


def is_whole(value: str) -> bool:
    """Return whether references in a value, ${key}, can be read."""
    if "${" not in value:
        return True
    try:
        OmegaConf.create({"value": value})
    except OmegaConfBaseException:
        return False
    return True


def _parsed(parser: OverridesParser, word: str) -> Override | None:
    try:
        return parser.parse_override(word)
    except (HydraException, ValueError, RecursionError):
        return None


def _literal(sign: str, key: str, value: str) -> str:
    return f"{sign or '++'}{key}={_quoted(value)}"


def _quoted(text: str) -> str:
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def _plain(value: Any) -> Any:
    """Return a value of Hydra's grammar as plain data."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(_plain(name)): _plain(one) for name, one in value.items()}
    return value
