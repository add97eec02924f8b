"""Models of the Hub by their commits: which sources name a branch, and what it is now; all without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from evomerge.config.schema import SearchConfig
from evomerge.errors import CheckpointError
from evomerge.merge.adapters.names import adapter_of, base_of
from evomerge.merge.files.hub import find
from evomerge.merge.files.hub_listing import cached_commit, is_commit, is_offline, storage_of
from evomerge.merge.files.hub_transfer import without_bars
from evomerge.merge.files.locate import ADAPTER, is_adapter, is_on_hub
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.store.inputs import moved_recipe
from evomerge.system.text import visible

Note = Callable[[str], None]
Pins = Mapping[ModelSource, ModelSource]
"""A source that names a branch to the same one at its commit."""

_AT_ONCE = 4
"""How many models are asked for at once."""


def any_on_hub(sources: Iterable[ModelSource]) -> bool:
    """Return whether a model, or an adapter on one, is of the Hub; nothing is asked, and no weights are opened."""
    return any(is_on_hub(layer) for source in sources for layer in _layers(source))


def find_pins(
    sources: Mapping[str, ModelSource], note: Note | None = None, known: Mapping[str, ModelSource] | None = None
) -> Pins:
    """Return the commits of the models of the Hub that are named by a branch, or by nothing.

    So all that is made of them, here and elsewhere, now and later, is made of the same commits. Their small files come
    into the cache. A model that cannot be found is left as it is: whoever opens it says why.

    Args:
        sources: the models, by name.
        note: called with a sentence where the Hub is asked.
        known: models that were used before, by the same names: a repository that is still the same keeps its commit.
    """
    pins: dict[ModelSource, ModelSource] = {}
    for name, source in sources.items():
        before = (known or {}).get(name)
        if before is None or _is_pinned(source) or not _is_pinned(before):
            continue
        if _stands_for(before, source):
            pins[source] = before
    asked = [one for one in dict.fromkeys(sources.values()) if one not in pins and not _is_pinned(one)]
    if not asked:
        return pins
    if note is not None and not is_offline():
        names = ", ".join(visible(one.path) for one in asked[:4]) + (f" and {len(asked) - 4} more" if asked[4:] else "")
        note(f"asking the Hub about {names}")
    with without_bars(), ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="hub") as pool:
        found = list(pool.map(_pinned, asked))
    return {**pins, **dict(zip(asked, found, strict=True))}


def pin_config(config: SearchConfig, pins: Pins) -> SearchConfig:
    """Return a configuration whose models are named by their commits."""

    def parent(one: Parent) -> Parent:
        inner = one.source
        return replace(one, source=moved_recipe(inner, pins) if isinstance(inner, Recipe) else pins.get(inner, inner))

    models = config.models
    base = None if models.base is None else parent(models.base)
    return replace(config, models=replace(models, parents=tuple(map(parent, models.parents)), base=base))


def pin_recipe(recipe: Recipe, note: Note | None) -> Recipe:
    """Return a recipe whose models are named by their commits; see `find_pins`."""
    sources = {str(i): one for i, one in enumerate(recipe.checkpoints())}
    return moved_recipe(recipe, find_pins(sources, note))


def _stands_for(before: ModelSource, source: ModelSource) -> bool:
    """Return whether a model at commits is what was found for a source; that of an adapter names the model below it."""
    if before.adapter == source.path != before.path and source.adapter is None:
        before = replace(before, path=source.path, adapter=None, adapter_revision=None)
    return replace(before, revision=source.revision, adapter_revision=source.adapter_revision) == source


def _is_pinned(source: ModelSource) -> bool:
    """Return whether a model, its adapter, and the model that an adapter itself names, are local or at a commit."""
    if source.adapter is None and is_on_hub(source) and _cached_folder(source) is None:
        return False  # it may be an adapter, which names a model
    return all(is_commit(one.revision) or not is_on_hub(one) for one in _layers(source))


def _cached_folder(source: ModelSource) -> Path | None:
    """Return the folder in the Hub's cache that tells whether a repository is a model or an adapter."""
    commit = cached_commit(source.path, source.revision)
    folder = None if commit is None else storage_of(source.path) / "snapshots" / commit
    return folder if folder and any((folder / name).is_file() for name in ("config.json", ADAPTER)) else None


def _layers(source: ModelSource) -> list[ModelSource]:
    """Return the models and adapters that a source is made of, as far as that is known without a request.

    The first is the model, or an adapter alone; then come the adapter on top of it, or the model that an adapter names.
    """
    if source.adapter is not None:
        adapter = ModelSource(source.adapter, source.adapter_revision, allow_pickle=source.allow_pickle)
        return [replace(source, adapter=None, adapter_revision=None), adapter]
    try:
        if is_on_hub(source):
            folder = _cached_folder(source)
            if folder is None or not is_adapter(folder):
                return [source]
        return [source] if adapter_of(source) is None else [source, base_of(source)]
    except CheckpointError:  # whoever opens it says what is wrong
        return [source]


def _pinned(source: ModelSource) -> ModelSource:
    """Return a source at commits; where a folder or repository is an adapter, the model that it names is written out.

    An adapter's configuration names that model by a branch, or by nothing, as often as not.
    """
    try:
        model, *adapters = _layers(source) if source.adapter is not None else [source]
        if not is_commit(model.revision) and is_on_hub(model):
            source = replace(source, revision=find(model).listing.commit)
        for adapter in adapters:
            if not is_commit(adapter.revision) and is_on_hub(adapter):
                source = replace(source, adapter_revision=find(adapter).listing.commit)
        if source.adapter is None and adapter_of(source) is not None and is_on_hub(below := base_of(source)):
            commit = below.revision if is_commit(below.revision) else find(below).listing.commit
            return replace(below, revision=commit, adapter=source.path, adapter_revision=source.revision)
    except CheckpointError:
        pass
    return source
