"""What may stand in a folder that is published: no folders of this machine, no secrets.

A recipe names local models by the last part of their folder, as its card does; whoever builds it again puts in where
theirs are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evomerge.errors import ExportError
from evomerge.export.revisions import is_hub_id, of_the_hub
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.system.secrets import Found, secrets_in_data, secrets_in_text

CUT_NOTE = "# Local paths are cut to their last part: put in where yours are.\n"

LARGEST_TEXT = 4 << 20
"""Bytes of the largest file that is read for secrets; longer ones are vocabularies and tables of weights."""

_TEXTS = {".json", ".yaml", ".yml", ".md", ".txt", ".py", ".toml", ".cfg", ".ini", ".jinja", ".env", ".sh", ".csv", ""}
_BY_NAME = {".json", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".env", ".sh", ""}
"""Files of settings, in which the name of a value says that it is a secret."""

_VOCABULARIES = {"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json"}
_PATH = re.compile(r"(?<![\w/.~-])(?:~|\.{1,2})?/(?!/)(?:[^/\s:'\",]+/)*([^/\s:'\",]*)")
_SHOWN = 20


def published_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe that means the same to whoever reads it elsewhere.

    Local models are named by the last part of their folder, or by their own name in the recipe where that would be two
    of one name; so are adapters, and a merge method in a file of one's own. Models on the Hub are named at the commit
    that was used, as far as the Hub's cache knows it. A recipe of models of the zoo comes back as it is.
    """
    places = [place for source in recipe.checkpoints() for place in _local_places(of_the_hub(source))]
    folders = {_folder(place) for place in places}
    ambiguous = len({folder.name for folder in folders}) < len(folders)

    def visit(parent: Parent) -> Parent:
        source = parent.source
        if isinstance(source, Recipe):
            return replace(parent, source=_with_parents(source, visit))
        source = of_the_hub(source)
        if _is_local(source.path):
            source = replace(source, path=parent.name if ambiguous else _folder(source.path).name)
        if source.adapter is not None and _is_local(source.adapter):
            name = f"{parent.name}-adapter" if ambiguous else _folder(source.adapter).name
            source = replace(source, adapter=name)
        return replace(parent, source=source)

    return _with_parents(recipe, visit)


def without_folders(data: Any) -> Any:
    """Return plain data with local paths cut to their last part, since a public card must not show them."""
    if isinstance(data, Mapping):
        return {key: without_folders(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [without_folders(value) for value in data]
    if not isinstance(data, str):
        return data
    if data.startswith(("/", "~/", "./", "../")):
        return data.rstrip("/").rsplit("/", 1)[-1]
    return _PATH.sub(r"\1", data)  # inside: python:/home/me/metric.py:f


def refuse_secrets_in_data(config: Mapping[str, Any], where: Path) -> None:
    """Check that a configuration may be published.

    Raises:
        ExportError: if it holds what looks like a secret.
    """
    found = [f"{one.place}: {one.what}" for one in secrets_in_data(config)]
    if found:
        raise ExportError(
            f"{where} holds what looks like a secret, so nothing is written that may be published:\n{_listed(found)}\n"
            "Write a reference to the environment in its place, for example ${oc.env:HF_TOKEN} (a run keeps the "
            "reference, not the value), and export again. Whoever could read the file may know the secret: replace it"
        )


def refuse_secrets_in_folder(folder: Path, names: Iterable[str]) -> None:
    """Check that the texts of a folder may be published.

    Raises:
        ExportError: if one holds what looks like a secret; the message names file and line.
    """
    found = [
        f"{name}{f', line {one.line}' if one.line else ''}: {one.what}"
        for name in names
        for one in _secrets_in_file(folder / name)
    ]
    if found:
        raise ExportError(
            f"{folder} holds what looks like a secret, so it is not published:\n{_listed(found)}\n"
            "Remove it from the file, or write a reference to the environment in its place, for example "
            "${oc.env:HF_TOKEN}. Whoever could read the file may know the secret: replace it"
        )


def _secrets_in_file(path: Path) -> Iterator[Found]:
    kind = path.suffix.lower()
    if kind not in _TEXTS or path.name in _VOCABULARIES or path.stat().st_size > LARGEST_TEXT:
        return
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror or error}") from error
    yield from secrets_in_text(text, by_name=kind in _BY_NAME)


def _listed(found: list[str]) -> str:
    left = len(found) - _SHOWN
    return "\n".join(f"  - {one}" for one in [*found[:_SHOWN], *([f"and {left} more"] if left > 0 else [])])


def _with_parents(recipe: Recipe, visit: Any) -> Recipe:
    groups = tuple(replace(group, method=without_folders(group.method)) for group in recipe.groups)
    return replace(recipe.with_members(visit), method=without_folders(recipe.method), groups=groups)


def _local_places(source: ModelSource) -> Iterator[str]:
    places = (source.path, source.adapter)
    yield from (place for place in places if place is not None and _is_local(place))


def _is_local(path: str) -> bool:
    return not path.startswith("zoo:") and not is_hub_id(path)


def _folder(path: str) -> Path:
    return Path(path).expanduser().resolve()
