"""What a model's repository on the Hub holds at one commit: asked once, from the Hub or, without it, from the cache."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files import hub_errors

ANSWER_SECONDS = 8.0
"""How long the Hub may take to answer: it does within one second; in a network without a way to it, it never does."""

_TRIES, _PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 3, 0.5, 20.0
_BUSY = (429, 500, 502, 503, 504)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        name: its path in the repository.
        size: in bytes.
        etag: its name in the cache: SHA-256 of a large file (64 digits), else git's SHA-1 of its blob (40 digits).
    """

    name: str
    size: int
    etag: str


@dataclass(frozen=True)
class Listing:
    """A repository at one commit.

    Attributes:
        path: its id, `org/name`.
        commit: the commit.
        files: what it holds, by name; empty: the Hub was not asked, since all that is needed is in the cache.
        licence: as its card says; None: it does not, or the Hub was not asked.
        gated: whether its files need terms to be accepted.
    """

    path: str
    commit: str
    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    licence: str | None = None
    gated: bool = False

    @property
    def storage(self) -> Path:
        """The folder of the repository in the cache."""
        return storage_of(self.path)

    @property
    def folder(self) -> Path:
        """The folder of this commit's files in the cache."""
        return self.storage / "snapshots" / self.commit

    def blob(self, file: RemoteFile) -> Path:
        """Return where the cache keeps the content of a file."""
        return self.storage / "blobs" / file.etag


def storage_of(path: str) -> Path:
    """Return the folder of a repository in the cache of the Hub."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{path.replace('/', '--')}"


def is_offline() -> bool:
    """Return whether no request may be made (`HF_HUB_OFFLINE`)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def is_commit(revision: str | None) -> bool:
    """Return whether a revision is a whole commit id, which never means anything else."""
    return isinstance(revision, str) and _COMMIT.fullmatch(revision) is not None


def cached_commit(path: str, revision: str | None) -> str | None:
    """Return the commit that the cache knows a revision as, if it has files of it."""
    storage = storage_of(path)
    named = storage / "refs" / (revision or "main")
    try:
        commit = named.read_text(encoding="ascii").strip() if named.is_file() else revision
        if commit is None or not re.fullmatch(r"[0-9a-f]{7,40}", commit):
            return None
        found = sorted(one.name for one in (storage / "snapshots").glob(f"{commit}*"))
    except (OSError, ValueError):
        return None
    return found[0] if len(found) == 1 else None


def ask(path: str, revision: str | None) -> Listing:
    """Ask the Hub what a revision of a repository is and holds; the cache then knows the revision's commit.

    Raises:
        CheckpointError: if there is no such model or revision, it may not be seen, or the Hub refuses.
        hub_errors.UnreachableError: if the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    info = patiently(
        lambda: api.model_info(path, revision=revision, files_metadata=True, timeout=ANSWER_SECONDS),
        lambda error: hub_errors.said(error, path, revision),
    )
    if not is_commit(info.sha):
        raise hub_errors.foreign(f"the commit of {path} is {info.sha!r}")
    files = {one.rfilename: _remote(path, one) for one in info.siblings or ()}
    listing = Listing(path, str(info.sha), files, _licence(info), bool(info.gated))
    if not is_commit(revision):
        _remember(listing, revision or "main")
    return listing


def _remote(path: str, said: Any) -> RemoteFile:
    """Return a file of a repository as the Hub describes it.

    Raises:
        hub_errors.UnreachableError: if its name leads out of the repository, or size or hash are missing.
    """
    etag, name = said.lfs.sha256 if said.lfs is not None else said.blob_id, str(said.rfilename)
    if not isinstance(said.size, int) or not _HASH.fullmatch(str(etag)):
        raise hub_errors.foreign(f"{name} of {path} has no size and hash")
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise hub_errors.foreign(f"{path} holds {name!r}, which lies outside of it")
    return RemoteFile(name, said.size, str(etag))


def patiently(request: Any, explained: Any) -> Any:
    """Make a request, a few times where the Hub is busy or the connection breaks.

    Args:
        request: makes it.
        explained: returns what is raised for an error of huggingface_hub.

    Raises:
        CheckpointError, hub_errors.UnreachableError: as `explained` says.
    """
    for tried in range(1, _TRIES + 1):
        try:
            return request()
        except hub_errors.any_error() + hub_errors.MALFORMED as error:
            status = hub_errors.status_of(error)
            if (
                tried == _TRIES
                or hub_errors.is_foreign(error)
                or (status is not None and status not in _BUSY)
                or hub_errors.is_hopeless(error)
            ):
                raise explained(error) from error
            time.sleep(pause(tried, error))
    raise AssertionError("the last try returns or raises")


def pause(tried: int, error: Exception) -> float:
    """Return how many seconds to wait after the n-th try: as the Hub asks, within limits, else a bit more each time."""
    asked = hub_errors.retry_after(error)
    return min(_PAUSE_SECONDS * 2 ** (tried - 1) if asked is None else asked, _LONGEST_PAUSE_SECONDS)


def _licence(info: Any) -> str | None:
    card = info.card_data
    found = card.get("license") if card is not None else None
    if found is None:
        tags = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
        found = tags[0] if tags else None
    name = card.get("license_name") if card is not None else None
    named = f"{found} ({name})" if found == "other" and name else found
    return None if named is None else str(named)


def _remember(listing: Listing, revision: str) -> None:
    """Let the cache know which commit a branch or tag is, as the Hub's own client does."""
    place = listing.storage / "refs" / revision
    if ".." in Path(revision).parts or place.is_dir():
        return
    try:
        if place.is_file() and place.read_text(encoding="ascii") == listing.commit:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        made = place.with_name(f".{place.name}.{listing.commit[:8]}")
        made.write_text(listing.commit, encoding="ascii")
        made.replace(place)
    except OSError as error:
        raise CheckpointError(
            f"the cache of the Hub cannot be written ({error}); set HF_HOME to a folder that can"
        ) from error
