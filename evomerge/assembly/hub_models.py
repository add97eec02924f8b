"""Models of the Hub before the work begins: what has to come, and its download."""

from __future__ import annotations

import time

from evomerge.assembly.hub_pins import Note, any_on_hub, pin_recipe
from evomerge.assembly.inputs import WORTH_SAYING
from evomerge.merge.files.hub import HubModel, bring, find
from evomerge.merge.files.hub_checked import check, unchecked
from evomerge.merge.files.hub_transfer import sound
from evomerge.merge.sources import Sources
from evomerge.recipe import Recipe
from evomerge.system.advance import Advance
from evomerge.system.memory import GIB
from evomerge.system.text import duration, visible

_EVERY_SECONDS = 0.5


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


def ready(recipe: Recipe, note: Note | None) -> Recipe:
    """Return a recipe at the commits of its models, once they are checked by their headers and downloaded.

    Args:
        recipe: the recipe.
        note: called with a sentence about what takes a while.

    Raises:
        RecipeError, CheckpointError: with every mistake that headers show, before weights are downloaded.
    """
    if not any_on_hub(recipe.checkpoints()):
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
        left = f", {_size(round(speed))}/s, {duration((total - done) / speed)} left" if speed > 0 else ""
        models = "1 model" if self._n_models == 1 else f"{self._n_models} models"
        self._note(Advance(f"downloading {models}: {_size(done)} of {_size(total)} ({share:.0f} %){left}"))


def _size(n_bytes: int) -> str:
    return f"{n_bytes / GIB:.2f} GiB" if n_bytes >= GIB / 10 else f"{n_bytes / 2**20:.1f} MiB"


def _described(model: HubModel, dtype: str) -> str:
    size = sum(file.size for file in model.missing)
    files = "1 file" if len(model.missing) == 1 else f"{len(model.missing)} files"
    licence = f"licence {visible(model.listing.licence)}" if model.listing.licence else "no licence said"
    gated = ", gated" if model.listing.gated else ""
    path, commit = visible(model.listing.path), model.listing.commit[:12]
    return f"{path} at commit {commit}: {files} of {_size(size)} to download, {dtype}, {licence}{gated}"
