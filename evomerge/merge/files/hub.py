"""Models on the Hugging Face Hub: which files of a repository are needed, and where in the cache they are or will be.

A model is found (`find`) by its small files: configuration, tokenizer, code, the index of its weights. What is to be
decided before weights are downloaded is decided by these and by the headers of the weights (`hub_headers`).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files import hub_errors
from evomerge.merge.files.belongings import GENERATION, is_belonging
from evomerge.merge.files.hub_listing import Listing, RemoteFile, ask, cached_commit, is_commit, is_offline
from evomerge.merge.files.hub_transfer import WORKERS, Tell, fetch, link, sound, without_bars
from evomerge.merge.files.weights import PICKLES, few, weight_files, weights_name
from evomerge.recipe import ModelSource
from evomerge.system.advance import NowAndThen
from evomerge.system.memory import GIB

log = logging.getLogger(__name__)

_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_SMALL = (_CONFIG, GENERATION, _ADAPTER, "README.md")
_PART = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)")


@dataclass(frozen=True)
class HubModel:
    """A model of the Hub whose small files are in the cache.

    Attributes:
        source: what named it.
        listing: its repository at the commit.
        missing: the files of its weights that are not in the cache.
    """

    source: ModelSource
    listing: Listing
    missing: tuple[RemoteFile, ...] = ()

    @property
    def folder(self) -> Path:
        """Its folder in the cache, in which the weights appear once they are downloaded."""
        return self.listing.folder

    @property
    def is_here(self) -> bool:
        """Whether the missing weights have come meanwhile."""
        return all((self.folder / file.name).exists() for file in self.missing)

    @property
    def has_headers(self) -> bool:
        """Whether all missing weights begin with a header that says what is in them."""
        return all(file.name.endswith(".safetensors") for file in self.missing)


def find(source: ModelSource) -> HubModel:
    """Find a model of the Hub, and bring its small files; a whole one at a commit costs no request.

    Raises:
        CheckpointError: if there is no such repository or revision, it is gated, is no model, lacks files of its
            weights, or the Hub cannot be reached and the cache has not all of it.
    """
    path, revision = source.path, source.revision
    commit = cached_commit(path, revision)
    here = None if commit is None else Listing(path, commit)
    lacks = None if here is None else _lacks(here.folder, source)
    whole = here is not None and lacks is None
    if here is not None and whole and (is_commit(revision) or is_offline()):
        return HubModel(source, here)
    if is_offline():
        raise hub_errors.not_here(path, revision, "HF_HUB_OFFLINE forbids asking the Hub", lacks)
    try:
        listing = ask(path, revision)
    except hub_errors.UnreachableError as error:
        if here is None or not whole:
            raise hub_errors.not_here(path, revision, f"the Hub cannot be reached ({error})", lacks) from error
        log.warning(
            "the Hub cannot be reached (%s): %s is taken from the cache, at commit %s", error, path, here.commit
        )
        return HubModel(source, here)
    _bring_small(listing, _small_files(listing.files, source))
    wanted = [listing.files[name] for name in _weights(listing, source)]
    return HubModel(source, listing, tuple(file for file in wanted if not _is_here(listing, file)))


def small_file(source: ModelSource, name: str) -> Path | None:
    """Return a small file of a model from the cache, or else with one short request from the Hub; None: it has none.

    Raises:
        CheckpointError, hub_errors.UnreachableError: if it cannot be had.
    """
    commit = cached_commit(source.path, source.revision)
    here = None if commit is None else Listing(source.path, commit).folder / name
    if here is not None and here.is_file():
        return here
    if is_offline():
        return None
    listing = ask(source.path, commit if is_commit(source.revision) else source.revision)
    if name not in listing.files:
        return None
    _bring_small(listing, [name])
    return listing.folder / name


def bring(models: Sequence[HubModel], tell: Tell | None = None) -> None:
    """Download the missing weights of models, all at once.

    Args:
        models: the models.
        tell: called with (bytes that are here, bytes in all) as they come; None: the log says it.

    Raises:
        CheckpointError: if a download fails; what is here then is not downloaded again.
    """
    wanted = {(one.listing.path, file.etag, file.name): (one.listing, file) for one in models for file in one.missing}
    if wanted:
        fetch(list(wanted.values()), tell or _logged(", ".join(dict.fromkeys(one.listing.path for one in models))))


def _logged(names: str) -> Tell:
    """Return what says in the log how far a download is, where nobody else does."""
    now_and_then = NowAndThen()

    def tell(done: int, total: int) -> None:
        if done < total and now_and_then.due():
            log.warning(
                "downloading %s: %.2f of %.2f GiB (%.0f %%)", names, done / GIB, total / GIB, 100 * done / total
            )

    return tell


def _lacks(folder: Path, source: ModelSource) -> str | None:
    """Return what the cache lacks of a model, as far as its own files say; None: nothing."""
    if source.file is not None:
        return None if (folder / source.file).is_file() else f"{source.file} is missing"
    if not (folder / _CONFIG).is_file() and (folder / _ADAPTER).is_file():
        weights = [folder / f"adapter_model.{end}" for end in ("safetensors", "bin")]
        return None if any(one.is_file() for one in weights) else "the adapter's weights are missing"
    if not (folder / _CONFIG).is_file():
        return f"{_CONFIG} is missing"
    try:
        weight_files(folder)
    except CheckpointError as error:
        return str(error)
    return None


def _small_files(names: Collection[str], source: ModelSource) -> list[str]:
    """Return the files beside the weights that are needed: what transformers would load, and the card."""
    wanted = {name for name in names if name in _SMALL or is_belonging(name) or _is_index(name)}
    if source.trust_remote_code:
        wanted |= {name for name in names if name.endswith(".py") and "/" not in name}
    return sorted(wanted)


def _is_index(name: str) -> bool:
    return name.endswith(".index.json") and "/" not in name


def _bring_small(listing: Listing, names: Sequence[str]) -> None:
    """Bring small files by huggingface_hub's own download, each checked by its hash."""

    def one(name: str) -> None:
        file, place = listing.files[name], listing.folder / name
        if _is_here(listing, file):
            return
        link(listing, file)
        if not sound(place, file):
            place.resolve().unlink()
            place.unlink(missing_ok=True)
            link(listing, file)
            if not sound(place, file):
                raise CheckpointError(f"{name} of {listing.path} came damaged twice; try again later")

    with without_bars(), ThreadPoolExecutor(WORKERS, thread_name_prefix="small files") as pool:
        for job in [pool.submit(one, name) for name in names]:
            job.result()


def _is_here(listing: Listing, file: RemoteFile) -> bool:
    """Return whether the cache has a file; one of another size is damaged, and is taken away."""
    place = listing.folder / file.name
    try:
        size = place.stat().st_size
    except OSError:
        return False
    if size == file.size:
        return True
    log.warning("%s in the cache is damaged (%d bytes in place of %d), and is downloaded again", place, size, file.size)
    place.resolve().unlink(missing_ok=True)
    place.unlink(missing_ok=True)
    return False


def _weights(listing: Listing, source: ModelSource) -> list[str]:
    """Return the files of a repository that hold the weights, as transformers would choose them.

    Raises:
        CheckpointError: if there are none, some are missing, or they are pickles that are not permitted.
    """
    names, path = set(listing.files), listing.path
    if source.file is not None:
        return _parts(names, source)
    if _CONFIG not in names and _ADAPTER in names:
        return [_adapter_weights(names, source)]
    ggufs = sorted(name for name in names if name.endswith(".gguf"))
    if _CONFIG not in names:
        hint = f"it has GGUF files: name one, {{path: {path}, file: {ggufs[0]}}}" if ggufs else "so it is no model"
        raise CheckpointError(f"{path} on the Hub has no {_CONFIG}; {hint}")
    first = weights_name(names, _json(listing.folder / _CONFIG))
    if first is None:
        pickle = next((name for name in PICKLES if name in names), None)
        if pickle is not None and source.allow_pickle:
            first = pickle
        elif pickle is not None:
            raise CheckpointError(
                f"{path} on the Hub holds its weights as {pickle}, a pickle, which can run code when it is read. If "
                f"you trust it, write {{path: {path}, allow_pickle: true}}; or name a revision that has safetensors"
            )
        elif ggufs:
            raise CheckpointError(
                f"{path} on the Hub has its weights as GGUF alone: name a file, {{path: {path}, file: {ggufs[0]}}}"
            )
        else:
            raise CheckpointError(f"{path} on the Hub has no weights that can be read; it has {few(sorted(names))}")
    if not first.endswith(".index.json"):
        return [first]
    return [first, *_shards(listing, first)]


def _shards(listing: Listing, index: str) -> list[str]:
    try:
        found = sorted(set(map(str, _json(listing.folder / index)["weight_map"].values())))
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{index} of {listing.path} on the Hub is no index of shards") from None
    lost = [name for name in found if name not in listing.files]
    if lost:
        raise CheckpointError(
            f"{listing.path} on the Hub (commit {listing.commit[:12]}) lacks {few(lost)}, which its {index} names: the "
            "upload was not finished; take another revision, or ask whoever made it"
        )
    return found


def _parts(names: Collection[str], source: ModelSource) -> list[str]:
    """Return a GGUF file with its further parts."""
    file = str(source.file)
    if file not in names:
        there = sorted(name for name in names if name.endswith(".gguf")) or sorted(names)
        raise CheckpointError(f"{source.path} on the Hub has no {file}; it has {few(there)}")
    if not _PART.search(file):
        return [file]
    stem = _PART.sub("", file)
    return sorted(name for name in names if _PART.search(name) and _PART.sub("", name) == stem)


def _adapter_weights(names: Collection[str], source: ModelSource) -> str:
    if "adapter_model.safetensors" in names:
        return "adapter_model.safetensors"
    if "adapter_model.bin" not in names:
        raise CheckpointError(f"{source.path} on the Hub is a LoRA adapter without weights (adapter_model.safetensors)")
    if not source.allow_pickle:
        raise CheckpointError(
            f"{source.path} on the Hub is a LoRA adapter whose weights are a pickle (adapter_model.bin), which can run "
            "code when it is read. If you trust it, write allow_pickle: true"
        )
    return "adapter_model.bin"


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # whoever reads it says so
