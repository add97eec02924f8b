"""Which commit of a Hub model was used, also where none was named: the Hub's cache says it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from evomerge.merge.files.hub_listing import cached_commit
from evomerge.recipe import ModelSource

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", flags=re.ASCII)


def is_hub_id(path: str) -> bool:
    """Return whether a source names a repository on the Hub: it looks like an id, and no folder has that name."""
    if path.startswith(("zoo:", ".", "/", "~")) or Path(path).expanduser().exists():
        return False
    return _HUB_ID.fullmatch(path) is not None and ".." not in path and "--" not in path


def of_the_hub(source: ModelSource) -> ModelSource:
    """Return a source with the commits that are in the Hub's cache in place of branches, tags and nothing.

    A folder of the cache itself (`…/models--org--name/snapshots/COMMIT`) is named by its id on the Hub. What the cache
    does not know, and what is not of the Hub, comes back as it is.
    """
    path, revision = _place(source.path, source.revision)
    adapter, adapter_revision = source.adapter, source.adapter_revision
    if adapter is not None:
        adapter, adapter_revision = _place(adapter, adapter_revision)
    return replace(source, path=path, revision=revision, adapter=adapter, adapter_revision=adapter_revision)


def _place(path: str, revision: str | None) -> tuple[str, str | None]:
    """Return the id and the commit of one repository."""
    if is_hub_id(path):
        return path, cached_commit(path, revision) or revision
    if path.startswith("zoo:") or "models--" not in str(Path(path).expanduser().absolute()):
        return path, revision
    folder = Path(path).expanduser().absolute()
    commit, snapshots, repository = folder.name, folder.parent.name, folder.parent.parent.name
    if snapshots != "snapshots" or not _COMMIT.fullmatch(commit) or not repository.startswith("models--"):
        return path, revision
    return repository.removeprefix("models--").replace("--", "/"), commit
