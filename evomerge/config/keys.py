"""All keys of the configuration in one flat list, with the declaration of each.

Keys of list entries have names like `evaluation.tasks[].metric`, and keys below a name that the user chooses names like
`stages.NAME.share`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.config.names import REGISTRIES
from evomerge.config.schema import SearchKeys
from evomerge.errors import unknown_name
from evomerge.recipe.recipe import recipe_text_at

ROOT = ""
"""The name of the section that holds the keys at the top."""


@dataclass(frozen=True)
class Key:
    """The declaration of one key.

    Attributes:
        name: the key with all sections in front of it.
        type: the JSON type: "integer", "number", "boolean", "string", "array", "object"; several with a bar between.
        must: what a value must do, in the words that follow "must" in a message.
        default: the default; None: there is none, or it is null.
        low, high: limits of a number; None: no limit.
        words: the words that are accepted, each with a line of help (or an empty one).
        registry: the registry in `evomerge.config.names` that has the accepted names; None: there is none.
        help: one line of help.
        more: what there is to say beyond that line; empty: nothing.
        required: whether the key must be given.
        missing: what to do if it must be given and is not.
        at_resume: why another value may be given when a run is continued ("speed", "shown", "place", "limit" or
            "effect"); None: the value matters to the results.
        keys: the keys inside of it, without the section's name; empty if none are declared.
        open: whether further keys may stand inside: the options of what the section names, or names of the user's.
    """

    name: str
    type: str
    must: str
    default: Any
    low: float | None
    high: float | None
    words: Mapping[str, str]
    registry: str | None
    help: str
    more: str
    required: bool
    missing: str | None
    at_resume: str | None
    keys: tuple[str, ...]
    open: bool

    @property
    def choices(self) -> dict[str, str]:
        """The words or names that are accepted, each with a line of help; installed packages may add names."""
        if self.registry is None:
            return dict(self.words)
        registry = REGISTRIES[self.registry]()
        return {name: registry.line(name) for name in registry.names}

    def to_data(self) -> dict[str, Any]:
        """Return what `evomerge explain --json` prints."""
        return {
            "key": self.name,
            "type": self.type,
            "default": self.default,
            "low": self.low,
            "high": self.high,
            "choices": list(self.choices) or None,
            "help": self.help,
            "at_resume": self.at_resume,
        }


@functools.cache
def all_keys() -> Mapping[str, Key]:
    """Return every key by its name, in the order of the declaration; the first, `ROOT`, holds the keys at the top."""
    return {one.name: one for one in _walk(ROOT, _schema(), _schema()["$defs"], required=True)}


def declared(place: Sequence[str | int]) -> Key:
    """Return the key at a place in a configuration, or the nearest one around it.

    Args:
        place: keys and indices from the top, as in `("evaluation", "tasks", 0, "metric")`.
    """
    known, name, found = all_keys(), ROOT, all_keys()[ROOT]
    for step in place:
        tries = [f"{name}[]"] if isinstance(step, int) else [f"{name}.{step}".lstrip("."), f"{name}.NAME"]
        name = next((one for one in tries if one in known), "")
        if name.startswith(("stages.NAME.space", "stages.NAME.optimizer", "stages.NAME.strategy")):
            name = name.rpartition(".")[2]
        if not name:
            return found
        found = known[name]
    return found


def steps_of(name: str) -> list[str | int]:
    """Return a key like `evaluation.tasks[0].weight` (or `evaluation.tasks.0.weight`) as keys and indices."""
    return [int(step) if step.isdigit() else step for step in re.split(r"[.\[]", name.replace("]", ""))]


def undeclared(place: Sequence[str | int]) -> str | None:
    """Return the sentence about a place that names what its section does not have; None: such a key may stand there.

    Args:
        place: keys and indices from the top, as in `("execution", "thread")`.
    """
    for depth, step in enumerate(place):
        around = declared(place[:depth])
        if declared(place[: depth + 1]) is around and not around.open:
            return unknown_key(place[:depth], str(step))
    return None


def unknown_key(place: Sequence[str | int], name: str) -> str:
    """Return the sentence about a name that a section does not have: where such a key stands, or the nearest names.

    Args:
        place: keys and indices of the section.
        name: what came there.
    """
    around = declared(place)
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")
    kind, meant = f"key in {where or 'the configuration'}", re.sub(r"\W", "_", name)
    plain = [one for one in all_keys() if one and "[]" not in one and ".NAME" not in one]
    spelled = [one for one in plain if one.replace(".", "_") == meant and one != name]
    elsewhere = spelled or [one for one in plain if one.endswith(f".{meant}")]
    if 1 <= len(elsewhere) <= 3:
        return f"unknown {kind} {name!r}; did you mean {' or '.join(map(repr, elsewhere))}?"
    return unknown_name(kind, name, around.keys)


def takes_text(place: Sequence[str | int]) -> bool:
    """Return whether text is meant at a place in a configuration: no number and no flag can be its value.

    So YAML that says `tokenizer: no` means the parent of that name; see `evomerge.system.yaml_text.read_yaml`.
    """
    match tuple(place):
        case ("models", "base", "recipe", *inner) | ("models", "parents", str(), "recipe", *inner) if inner:
            return recipe_text_at(tuple(inner))
    nodes: list[Mapping[str, Any]] = [_schema()]
    for step in place:
        nodes = [inner for node in nodes for inner in _inside(node, step)]
    meant = [one for node in nodes for one in _alternatives(node)]
    kinds = {
        kind for one in meant for kind in ([one["type"]] if isinstance(one.get("type"), str) else one.get("type", ()))
    }
    return ("string" in kinds or any("x-word" in one for one in meant)) and not kinds & {"number", "integer", "boolean"}


@functools.cache
def _schema() -> dict[str, Any]:
    return SearchKeys.model_json_schema()


def _alternatives(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the schemas of which a value must keep one, with references resolved."""
    if "$ref" in node:
        yield from _alternatives(_schema()["$defs"][node["$ref"].rpartition("/")[2]])
    for one in (*node.get("allOf", ()), *node.get("anyOf", ())):
        yield from _alternatives(one)
    yield node


def _inside(node: Mapping[str, Any], step: str | int) -> Iterator[Mapping[str, Any]]:
    """Yield the schemas of what stands at a key or an index of a value."""
    for one in _alternatives(node):
        if isinstance(step, int):
            found = one.get("items")
        else:
            found = one.get("properties", {}).get(step) or one.get("additionalProperties")
        if isinstance(found, Mapping):
            yield found


def _walk(name: str, node: Mapping[str, Any], defs: Mapping[str, Any], *, required: bool) -> Iterator[Key]:
    said = _resolved(node, defs)
    inner: Mapping[str, Any] = said.get("properties", {})
    line, _, more = said.get("description", "").partition("\n")
    low, high = _limit(said, "minimum", "exclusiveMinimum"), _limit(said, "maximum", "exclusiveMaximum")
    yield Key(
        name=name,
        type=_type(said),
        must=said.get("x-must") or _must(said, tuple(inner)),
        default=said.get("default"),
        low=low,
        high=high,
        words={word: said.get("x-lines", {}).get(word, "") for word in said.get("enum", ())},
        registry=said.get("x-registry"),
        help=line,
        more=more.strip(),
        required=required,
        missing=said.get("x-missing"),
        at_resume=said.get("x-at-resume"),
        keys=tuple(inner),
        open="object" in _type(said).split("|") and said.get("additionalProperties", True) is not False,
    )
    if name.startswith("stages.NAME."):
        return  # these are the keys of `space`, `optimizer` and `strategy`
    for key, child in inner.items():
        yield from _walk(f"{name}.{key}".lstrip("."), child, defs, required=key in said.get("required", ()))
    for place, child in ((f"{name}[]", said.get("items")), (f"{name}.NAME", said.get("additionalProperties"))):
        if isinstance(child, Mapping) and "$ref" in child:
            yield from _walk(place, child, defs, required=False)


def _resolved(node: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with references resolved and without null; what stands nearer to the key has priority."""
    own = {name: value for name, value in node.items() if name not in ("$ref", "allOf")}
    if "$ref" in node:
        return {**_resolved(defs[node["$ref"].rpartition("/")[2]], defs), **own}
    if "allOf" in node:
        return {**_resolved(node["allOf"][0], defs), **own}
    options = [one for one in node.get("anyOf", ()) if one.get("type") != "null"]
    if len(options) == 1:
        del own["anyOf"]
        return {**_resolved(options[0], defs), **own}
    return own


def _type(said: Mapping[str, Any]) -> str:
    found = said.get("type") or [one.get("type", "") for one in said.get("anyOf", ()) if one.get("type") != "null"]
    return "|".join(dict.fromkeys([found] if isinstance(found, str) else found)) or "any"


def _limit(said: Mapping[str, Any], *names: str) -> float | None:
    return next((one[name] for one in (said, *said.get("anyOf", ())) for name in names if name in one), None)


def _must(said: Mapping[str, Any], inner: tuple[str, ...]) -> str:
    """Return what a value must do by its JSON schema, in words that follow "must"."""
    kind = said.get("type")
    if inner:
        return (
            f"be a mapping with {', '.join(inner)}"
            if "x-word" not in said
            else (f"be a {said['x-word']} or a mapping with {', '.join(f'`{one}`' for one in inner)}")
        )
    if kind in ("integer", "number"):
        text = "be a whole number" if kind == "integer" else "be a number"
        for name, word in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "up to"),
            ("exclusiveMaximum", "below"),
        ):
            text += f" {word} {said[name]:g}" if name in said else ""
        return text
    return {"boolean": "be true or false", "object": "be a mapping", "array": "be a list", "string": "be a text"}.get(
        str(kind), "be another value"
    )
