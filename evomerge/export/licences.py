"""The checkpoints that a recipe is made of, and what their own cards say about licence and language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.export.licence_terms import HUB_LICENCES, conflicts, governing, obligations, terms_of
from evomerge.export.revisions import is_hub_id, of_the_hub
from evomerge.merge.files.hub import small_file
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.system.text import markdown, visible
from evomerge.system.yaml_text import YamlError, read_yaml


@dataclass(frozen=True)
class Licence:
    """A licence as the Hub has it: an identifier, or "other" with a name and a link."""

    id: str
    name: str | None = None
    link: str | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """Its identifiers; several where a model has more than one."""
        return tuple(self.id.split(" AND "))

    @property
    def metadata(self) -> dict[str, Any]:
        """The keys of a card on the Hub that say it, in the form that the Hub takes: other identifiers are names."""
        if HUB_LICENCES.issuperset(self.parts):
            return {"license": self.id if len(self.parts) == 1 else list(self.parts)}
        name = self.name if self.id == "other" else self.id
        data = {"license": "other", "license_name": _name_id(name or "unknown")}
        return data if self.link is None else {**data, "license_link": self.link}

    def __str__(self) -> str:
        return f"{self.name} ({self.id})" if self.name else self.id


@dataclass(frozen=True)
class ParentModel:
    """A checkpoint that a recipe uses, directly or through a recipe among its parents; or an adapter on top of one.

    Attributes:
        name: its name in the recipe; "outer/inner" inside of a parent that is itself a recipe.
        label: its name in a card: the Hub id, or the last part of a local path.
        role: "base", "parent", "adapter" (on the model of the same name), or "below" (the model under an adapter, which
            the adapter's own configuration names).
        hub_id: its id on the Hub; None for local folders and the built-in zoo.
        revision: the commit that was used where it is known, else what was named; None: neither.
        licence: its licence; None if its card states none, or it has no card.
        datasets: the data sets that its card names as what it was trained on.
        file: the file of it that holds the weights, where one was named.
    """

    name: str
    label: str
    role: str = "parent"
    hub_id: str | None = None
    revision: str | None = None
    licence: Licence | None = None
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    file: str | None = None


def describe_parents(
    recipe: Recipe, *, read: Callable[[ModelSource, str], str | None] | None = None
) -> list[ParentModel]:
    """Return the checkpoints that a recipe is made of: its base first, then its parents in order.

    An adapter and the model below it are two, for the licences of both count.

    Args:
        recipe: the recipe.
        read: returns the text of a small file ("README.md", "config.json") of a model, or None if there is none. By
            default, files are read from the folder, the local Hub cache, or the Hub.
    """
    read = read or read_model_file
    return [one for name, role, source in _leaves(recipe, "") for one in _described(name, role, source, read)]


def merged_licence(parents: Sequence[ParentModel]) -> tuple[dict[str, Any], str]:
    """Return the Hub metadata for the licence of a merge, and sentences for people.

    One licence that all parents have, or that covers what is made of all of them, is the merge's too. Several that ask
    for their notices alone are listed. Otherwise it is "other": where a licence is unknown, where several sets of terms
    hold at once, and where two cannot be kept at once, which is named.
    """
    known = [(parent, parent.licence) for parent in parents if parent.licence is not None]
    unknown = [parent for parent in parents if parent.licence is None]
    terms = [terms_of(one, licence.name) for _, licence in known for one in licence.parts]
    said = [f"**Conflict of licences**: {markdown(text)}." for text in conflicts(terms)]
    said += [f"{markdown(text)}." for text in obligations(terms)]
    kinds = {(licence.id, (licence.name or "").lower()) for _, licence in known}
    if unknown:
        names = ", ".join(dict.fromkeys(_called(parent) for parent in unknown))
        first = f"The licence of {names} is unknown: check that you may use and publish what is made of it."
        return {"license": "other", "license_name": "unknown"}, _note(first, said)
    if len(kinds) == 1:
        licence = known[0][1]
        return licence.metadata, _note(f"All parents have the licence {markdown(licence)}.", said)
    ids = sorted({one for _, licence in known for one in licence.parts})
    several = len({kind for kind in kinds if kind[0] == "other"}) > 1  # of names, nobody knows what goes together
    governs = None if several else governing(ids)
    data: dict[str, Any]
    if governs is not None:
        licence = next(licence for _, licence in known if governs in licence.parts)
        whole = f"As far as their identifiers say, {markdown(licence)} may cover the whole; keep the others' notices."
        said.insert(0, whole)
        data = licence.metadata if licence.parts == (governs,) else Licence(governs).metadata
    elif all(one.permissive for one in terms) and HUB_LICENCES.issuperset(ids):
        said.insert(0, "Each asks for its notice alone: keep all of them.")
        data = {"license": ids}
    else:
        data = {"license": "other", "license_name": "mixed"}
    listed = ", ".join(f"{_called(parent)} {markdown(licence)}" for parent, licence in known)
    first = f"The parents have different licences: {listed}. Check that you may publish a model made of them."
    return data, _note(first, said)


def _note(first: str, said: Sequence[str]) -> str:
    """Return a sentence with what follows from the licences as a list below it."""
    if not said:
        return first
    intro = f"{first} What their identifiers say of a merge (no legal advice):\n"
    return "\n".join([intro, *(f"- {one}" for one in said)])


def _called(parent: ParentModel) -> str:
    return markdown(parent.name) + (f" ({parent.role})" if parent.role in ("adapter", "below") else "")


def read_model_file(source: ModelSource, name: str) -> str | None:
    """Return the text of a small file of a model; None if it is missing or cannot be reached.

    A card is worth one short request to the Hub, but never an error, since merging works offline.
    """
    place = Path(source.path).expanduser()
    local = (place.parent if place.is_file() else place) / name  # a GGUF file has its card beside it
    path = _from_hub(source, name) if is_hub_id(source.path) else local
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return _from_gguf(source, name)


def _from_gguf(source: ModelSource, name: str) -> str | None:
    """Return a small file of the folder that is made of a GGUF file, whose metadata may say licence and language."""
    place = Path(source.path).expanduser()
    if not (place.is_file() or (source.file is not None and place.is_dir())):
        return None
    from evomerge.merge.files.locate import locate

    try:
        return (locate(source) / name).read_text(encoding="utf-8")
    except (CheckpointError, OSError, UnicodeDecodeError):
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

_LONGEST, _MOST_LANGUAGES, _MOST_DATASETS = 100, 200, 50

_DATASET = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9_][\w.-]{0,95})?", flags=re.ASCII)


def _leaves(recipe: Recipe, prefix: str) -> Iterator[tuple[str, str, ModelSource]]:
    members: list[tuple[str, Parent]] = [("base", recipe.base)] if recipe.base is not None else []
    members += [("parent", parent) for parent in recipe.parents]
    for role, parent in members:
        if isinstance(parent.source, Recipe):
            yield from _leaves(parent.source, f"{prefix}{parent.name}/")
        else:
            yield f"{prefix}{parent.name}", role, parent.source


def _described(
    name: str, role: str, source: ModelSource, read: Callable[[ModelSource, str], str | None]
) -> Iterator[ParentModel]:
    """Yield a model; an adapter and the model below it as two."""
    settings = _json(read(ModelSource(source.path, source.revision), "adapter_config.json"))
    if settings and source.adapter is None:
        below = settings.get("base_model_name_or_path")
        if isinstance(below, str) and below:
            revision = settings.get("revision")
            model = ModelSource(below, revision if isinstance(revision, str) else None)
            yield _describe(name, "below", model, read)
        yield _describe(name, "adapter" if role == "parent" else role, source, read)
        return
    yield _describe(name, role, replace(source, adapter=None, adapter_revision=None), read)
    if source.adapter is not None:
        yield _describe(name, "adapter", ModelSource(source.adapter, source.adapter_revision), read)


def _describe(name: str, role: str, source: ModelSource, read: Callable[[ModelSource, str], str | None]) -> ParentModel:
    if source.path.startswith("zoo:"):  # the built-in models come with evomerge, under its licence
        return ParentModel(name, source.path, role, licence=Licence("apache-2.0"))
    card = front_matter(read(source, "README.md") or "")
    known = of_the_hub(source)
    hub_id = known.path if is_hub_id(known.path) else None
    datasets = (word for word in _words(card.get("datasets")) if _DATASET.fullmatch(word))
    return ParentModel(
        name=name,
        label=hub_id or Path(source.path).expanduser().resolve().name,
        role=role,
        hub_id=hub_id,
        revision=known.revision,
        licence=_licence(card) or _config_licence(read(source, "config.json")),
        languages=tuple(word for word in _words(card.get("language")) if _LANGUAGE.fullmatch(word))[:_MOST_LANGUAGES],
        datasets=tuple(datasets)[:_MOST_DATASETS],
        file=source.file,
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


def _name_id(name: str) -> str:
    """Return the name of a licence as the Hub asks for: lower case, hyphens, digits, points."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "unknown"


def _config_licence(text: str | None) -> Licence | None:
    return _licence(_json(text))


def _json(text: str | None) -> dict[str, Any]:
    try:
        data = json.loads(text or "{}")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _words(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(word for word in values if isinstance(word, str) and word)


def _from_hub(source: ModelSource, name: str) -> Path | None:
    try:
        return small_file(source, name)
    except Exception:  # no network, no access: many classes, one meaning
        return None
