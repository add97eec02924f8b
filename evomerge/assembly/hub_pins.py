"""Models of the Hub by their commits: which sources name a branch, and what it is now; all without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from evomerge.config.schema import SearchConfig
from evomerge.errors import CheckpointError
from evomerge.merge.files.hub import find
from evomerge.merge.files.hub_listing import is_commit, is_offline
from evomerge.merge.files.hub_transfer import without_bars
from evomerge.merge.files.locate import is_on_hub
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
        if replace(before, revision=source.revision, adapter_revision=source.adapter_revision) == source:
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


def _is_pinned(source: ModelSource) -> bool:
    """Return whether a model, and its adapter, are local or at a commit."""
    return all(is_commit(one.revision) or not is_on_hub(one) for one in _layers(source))


def _layers(source: ModelSource) -> list[ModelSource]:
    """Return the folders or repositories of a model, as far as names and folders that are here say: it, its adapter.

    A folder that is an adapter says itself which model lies below it.
    """
    if source.adapter is not None:
        adapter = ModelSource(source.adapter, source.adapter_revision, allow_pickle=source.allow_pickle)
        return [replace(source, adapter=None, adapter_revision=None), adapter]
    return [source]


def _pinned(source: ModelSource) -> ModelSource:
    try:
        if not is_commit(source.revision) and is_on_hub(replace(source, adapter=None, adapter_revision=None)):
            source = replace(source, revision=find(source).listing.commit)
        for adapter in _layers(source)[1:]:
            if not is_commit(adapter.revision) and is_on_hub(adapter):
                source = replace(source, adapter_revision=find(adapter).listing.commit)
    except CheckpointError:
        pass
    return source
