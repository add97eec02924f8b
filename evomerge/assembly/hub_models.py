"""Models of the Hub before the work begins: which commit each is, what has to come, and its download."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from evomerge.assembly.inputs import WORTH_SAYING
from evomerge.config.schema import SearchConfig
from evomerge.errors import CheckpointError
from evomerge.merge.files.hub import HubModel, bring, find
from evomerge.merge.files.hub_checked import check, unchecked
from evomerge.merge.files.hub_listing import is_commit, is_offline
from evomerge.merge.files.hub_transfer import sound, without_bars
from evomerge.merge.files.locate import is_on_hub
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.store.inputs import moved_recipe
from evomerge.system.advance import Advance
from evomerge.system.memory import GIB
from evomerge.system.text import visible

Note = Callable[[str], None]
Pins = Mapping[ModelSource, ModelSource]
"""A source that names a branch to the same one at its commit."""

_EVERY_SECONDS = 0.5
_AT_ONCE = 4
"""How many models are asked for at once."""


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


def bring_models(sources: Sources, note: Note | None) -> None:
    """Download the weights of all opened models that are not here, after saying what comes.

    Args:
        sources: the opened models, of which everything is checked that headers can tell.
        note: called with sentences; `Advance`s among them say how far the download is.

    Raises:
        CheckpointError: if the disk is too small, or a download fails; what is here stays.
    """
    models = {(one.listing.path, one.listing.commit): one for one, _ in sources.arriving}
    for found in _damaged(sources, note):
        models[found.listing.path, found.listing.commit] = found
    if note is not None:
        for line in describe_arriving(sources):
            note(line)
    bring(list(models.values()), None if note is None else _Told(note, len(models)))
    if note is not None and models:
        total = sum(file.size for model in models.values() for file in model.missing)
        note(f"downloaded {_size(total)}, each file checked by its hash")


def describe_arriving(sources: Sources) -> list[str]:
    """Return a sentence on each opened model whose weights are not here: commit, size, type of values, licence."""
    return list(dict.fromkeys(_described(model, dtype) for model, dtype in sources.arriving))


def pin_recipe(recipe: Recipe, note: Note | None) -> Recipe:
    """Return a recipe whose models are named by their commits; see `find_pins`."""
    sources = {str(i): one for i, one in enumerate(recipe.checkpoints())}
    return moved_recipe(recipe, find_pins(sources, note))


def ready(recipe: Recipe, note: Note | None) -> Recipe:
    """Return a recipe at the commits of its models, once they are checked by their headers and downloaded.

    Args:
        recipe: the recipe.
        note: called with a sentence about what takes a while.

    Raises:
        RecipeError, CheckpointError: with every mistake that headers show, before weights are downloaded.
    """
    if not any(map(is_on_hub, recipe.checkpoints())):
        return recipe
    recipe = pin_recipe(recipe, note)
    sources = Sources(tell=False)
    sources.check_tokens(recipe)
    bring_models(sources, note)
    return recipe


def _damaged(sources: Sources, note: Note | None) -> list[HubModel]:
    """Return the opened models with weights in the cache that are not what the Hub says; these are taken away.

    Raises:
        CheckpointError: if one is damaged, and the Hub cannot be asked for it.
    """
    found = {source: unchecked(one.folder) for source, one in sources.checkpoints.items()}
    files = list(dict.fromkeys(one for each in found.values() for one in each))
    if not files:
        return []
    size = sum(blob.stat().st_size for _, blob in files)
    if note is not None and size >= WORTH_SAYING:
        note(f"checking {_size(size)} of weights in the Hub's cache by their hashes, once")
    damaged = set(check(files, sound))
    if damaged and note is not None:
        for path in sorted(damaged):
            note(f"warning: {visible(path)} is damaged: its content has another hash; it is downloaded again")
    return [find(source) for source, each in found.items() if damaged & {path for path, _ in each}]


class _Told:
    """Says how far a download is, and how long it will take at the speed of the last half minute."""

    def __init__(self, note: Note, n_models: int) -> None:
        self._note, self._n_models = note, n_models
        self._next = 0.0
        self._seen: list[tuple[float, int]] = []

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY_SECONDS
        self._seen = [*((then, size) for then, size in self._seen if now - then < 30), (now, done)]
        (begin, before), share = self._seen[0], 100 * done / total if total else 100
        speed = (done - before) / (now - begin) if now > begin else 0.0
        left = f", {_size(round(speed))}/s, {_span((total - done) / speed)} left" if speed > 0 else ""
        models = "1 model" if self._n_models == 1 else f"{self._n_models} models"
        self._note(Advance(f"downloading {models}: {_size(done)} of {_size(total)} ({share:.0f} %){left}"))


def _size(n_bytes: int) -> str:
    return f"{n_bytes / GIB:.2f} GiB" if n_bytes >= GIB / 10 else f"{n_bytes / 2**20:.1f} MiB"


def _span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def _described(model: HubModel, dtype: str) -> str:
    size = sum(file.size for file in model.missing)
    files = "1 file" if len(model.missing) == 1 else f"{len(model.missing)} files"
    licence = f"licence {visible(model.listing.licence)}" if model.listing.licence else "no licence said"
    gated = ", gated" if model.listing.gated else ""
    path, commit = visible(model.listing.path), model.listing.commit[:12]
    return f"{path} at commit {commit}: {files} of {_size(size)} to download, {dtype}, {licence}{gated}"


def _is_pinned(source: ModelSource) -> bool:
    """Return whether a model and its adapter are local, or at a commit."""
    return (is_commit(source.revision) or not is_on_hub(source)) and (
        source.adapter is None or is_commit(source.adapter_revision) or not is_on_hub(_adapter(source))
    )


def _adapter(source: ModelSource) -> ModelSource:
    return ModelSource(str(source.adapter), source.adapter_revision, allow_pickle=source.allow_pickle)


def _pinned(source: ModelSource) -> ModelSource:
    try:
        if not is_commit(source.revision) and is_on_hub(replace(source, adapter=None, adapter_revision=None)):
            source = replace(source, revision=find(source).listing.commit)
        if source.adapter is not None and not is_commit(source.adapter_revision) and is_on_hub(_adapter(source)):
            source = replace(source, adapter_revision=find(_adapter(source)).listing.commit)
    except CheckpointError:
        pass
    return source
