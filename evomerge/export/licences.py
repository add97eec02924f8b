"""The checkpoints that a recipe is made of, and what their own cards say about licence and language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.system.text import markdown, markdown_code, visible
from evomerge.system.yaml_text import YamlError, read_yaml


@dataclass(frozen=True)
class Licence:
    """A licence as the Hub has it: an identifier, or "other" with a name and a link."""

    id: str
    name: str | None = None
    link: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.id})" if self.name else self.id


@dataclass(frozen=True)
class ParentModel:
    """A checkpoint that a recipe uses, directly or through a recipe among its parents.

    Attributes:
        name: its name in the recipe; "outer/inner" inside of a parent that is itself a recipe.
        label: its name in a card: the Hub id, or the last part of a local path.
        hub_id: its id on the Hub; None for local folders and the built-in zoo.
        licence: its licence; None if its card states none, or it has no card.
    """

    name: str
    label: str
    role: str = "parent"
    hub_id: str | None = None
    revision: str | None = None
    licence: Licence | None = None
    languages: tuple[str, ...] = ()


def describe_parents(
    recipe: Recipe, *, read: Callable[[ModelSource, str], str | None] | None = None
) -> list[ParentModel]:
    """Return the checkpoints that a recipe is made of: its base first, then its parents in order.

    Args:
        recipe: the recipe.
        read: returns the text of a small file ("README.md", "config.json") of a model, or None if there is none. By
            default, files are read from the folder, the local Hub cache, or the Hub.
    """
    read = read or read_model_file
    return [_describe(name, role, source, read) for name, role, source in _leaves(recipe, "")]


def merged_licence(parents: Sequence[ParentModel]) -> tuple[dict[str, str], str]:
    """Return the Hub metadata for the licence of a merge, and one sentence for people.

    If all parents have the same licence, it is the merge's too; otherwise it is "other", and the sentence says what to
    check.
    """
    unknown = [parent.name for parent in parents if parent.licence is None]
    if unknown:
        names = ", ".join(map(markdown_code, unknown))
        return (
            {"license": "other", "license_name": "unknown"},
            f"The licence of {names} is unknown: check that you may use and publish what is made of it.",
        )
    licences = {
        ((parent.licence.id, (parent.licence.name or "").lower()), parent.licence)
        for parent in parents
        if parent.licence
    }
    if len({key for key, _ in licences}) > 1:
        listed = ", ".join(f"{markdown_code(parent.name)} {markdown(parent.licence)}" for parent in parents)
        return (
            {"license": "other", "license_name": "mixed"},
            f"The parents have different licences: {listed}. Check that you may publish a model made of them.",
        )
    licence = next(parent.licence for parent in parents if parent.licence)
    data = {"license": licence.id}
    if licence.name:
        data["license_name"] = licence.name
    if licence.link:
        data["license_link"] = licence.link
    return data, f"All parents have the licence {markdown(licence)}."


def is_hub_id(path: str) -> bool:
    """Return whether a source names a repository on the Hub: it looks like an id, and no folder has that name."""
    if path.startswith(("zoo:", ".", "/", "~")) or Path(path).expanduser().exists():
        return False
    return _HUB_ID.fullmatch(path) is not None and ".." not in path and "--" not in path


def read_model_file(source: ModelSource, name: str) -> str | None:
    """Return the text of a small file of a model; None if it is missing or cannot be reached.

    A card is worth one short request to the Hub, but never an error, since merging works offline.
    """
    local = Path(source.path).expanduser() / name
    path = _from_hub(source, name) if is_hub_id(source.path) else local
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None


def front_matter(text: str) -> dict[str, Any]:
    """Return the YAML block at the start of a model card; empty if there is none or it cannot be read."""
    match = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", text, flags=re.DOTALL)
    if match is None:
        return {}
    try:
        data = read_yaml(match.group(1))
    except YamlError:
        return {}
    return data if isinstance(data, dict) else {}


_LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}|multilingual|code")
_LINK = re.compile(r"https?://[^\s<>\"'`\\(){}\[\]|@\x00-\x1f\x7f-\x9f]{1,500}")
"""A link into a parent's own repository is none that the merge's card could use."""

_LONGEST, _MOST_LANGUAGES = 100, 200

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", flags=re.ASCII)


def _leaves(recipe: Recipe, prefix: str) -> Iterator[tuple[str, str, ModelSource]]:
    members: list[tuple[str, Parent]] = [("base", recipe.base)] if recipe.base is not None else []
    members += [("parent", parent) for parent in recipe.parents]
    for role, parent in members:
        if isinstance(parent.source, Recipe):
            yield from _leaves(parent.source, f"{prefix}{parent.name}/")
        else:
            yield f"{prefix}{parent.name}", role, parent.source


def _describe(name: str, role: str, source: ModelSource, read: Callable[[ModelSource, str], str | None]) -> ParentModel:
    if source.path.startswith("zoo:"):  # the built-in models come with evomerge, under its licence
        return ParentModel(name, source.path, role, licence=Licence("apache-2.0"))
    card = front_matter(read(source, "README.md") or "")
    hub_id = source.path if is_hub_id(source.path) else None
    return ParentModel(
        name=name,
        label=hub_id or Path(source.path).expanduser().resolve().name,
        role=role,
        hub_id=hub_id,
        revision=source.revision,
        licence=_licence(card) or _config_licence(read(source, "config.json")),
        languages=tuple(word for word in _words(card.get("language")) if _LANGUAGE.fullmatch(word))[:_MOST_LANGUAGES],
    )


def _licence(data: dict[str, Any]) -> Licence | None:
    ids = [word.lower() for word in _words(data.get("license"))]
    name, link = data.get("license_name"), data.get("license_link")
    if not ids or "unknown" in ids:
        return None
    if ids == ["other"] and (not isinstance(name, str) or name.lower() in ("unknown", "mixed")):
        return None  # "other" without a name only says that there is some licence
    named = _plain_name(name) if isinstance(name, str) else None
    if not all(map(_LICENCE_ID.fullmatch, ids)):  # what is no identifier is shown as a name
        return Licence("other", named or _plain_name(", ".join(ids)))
    return Licence(
        " AND ".join(ids) if len(ids) > 1 else ids[0],
        named,
        link if isinstance(link, str) and _LINK.fullmatch(link) else None,
    )


def _plain_name(text: str) -> str | None:
    """Return the name of a licence without what would be markup in a page; None: nothing is left."""
    return re.sub(r"[<>\[\]{}()|`*\\]+", " ", visible(text, most=_LONGEST)).strip() or None


def _config_licence(text: str | None) -> Licence | None:
    try:
        data = json.loads(text or "{}")
    except ValueError:
        return None
    return _licence(data) if isinstance(data, dict) else None


def _words(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(word for word in values if isinstance(word, str) and word)


def _from_hub(source: ModelSource, name: str) -> Path | None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    found = try_to_load_from_cache(source.path, name, revision=source.revision)
    if isinstance(found, str):
        return Path(found)
    try:
        return Path(hf_hub_download(source.path, name, revision=source.revision, etag_timeout=5))
    except Exception:  # no network, no such file, no access: many classes, one meaning
        return None
