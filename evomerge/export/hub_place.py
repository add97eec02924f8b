"""Where an upload goes: whose token it is, whether the repository is there, and what it holds. Nothing is written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from evomerge.errors import ExportError
from evomerge.export.hub_errors import explained

ATTRIBUTES = ".gitattributes"
"""The file that the Hub makes with a repository, and keeps."""


class HeldFile(NamedTuple):
    """A file on the Hub.

    Attributes:
        size: in bytes.
        id: SHA-256 of a large file, else git's name of its content.
        large: whether it is stored as a large file.
    """

    size: int
    id: str
    large: bool


@dataclass(frozen=True)
class HubPlace:
    """A branch of a repository on the Hub.

    Attributes:
        repo_id: with its account.
        branch: None: `main`.
        exists: whether the repository is there; None: not known, for the reason in `unknown`.
        private: of one that is there.
        head: the commit of the branch; None: there is no such branch.
        files: what the branch holds, without `.gitattributes`.
    """

    repo_id: str
    branch: str | None = None
    exists: bool | None = False
    private: bool | None = None
    head: str | None = None
    files: Mapping[str, HeldFile] = field(default_factory=dict)
    unknown: str = ""

    @property
    def name(self) -> str:
        """What it is called in messages: "org/name", or "org/name (branch b)"."""
        return self.repo_id if self.branch is None else f"{self.repo_id} (branch {self.branch})"


def account_of(api: Any, repo_id: str, token: str) -> Mapping[str, Any] | None:
    """Return whose token it is; None: the Hub was asked that too often, and says so later.

    Raises:
        ExportError: if the Hub does not accept the token, or cannot be asked.
    """
    try:
        found: Mapping[str, Any] = api.whoami()
    except Exception as error:
        if getattr(getattr(error, "response", None), "status_code", None) == 429 and "/" in repo_id:
            return None
        failure = explained(error, repo_id, token)
    else:
        return found
    raise failure  # outside of the handler: the client's own error, whose text may hold the token, is not chained


def full_name(account: Mapping[str, Any], repo_id: str) -> str:
    """Return a repository's name with its account, once a token may write there.

    Args:
        account: whose token it is, as the Hub says it.
        repo_id: "org/name", or "name" for the token's own account.

    Raises:
        ExportError: if it may only read, or may not write in that account.
    """
    owner, _, name = repo_id.rpartition("/")
    user = str(account.get("name") or "")
    owner = owner or user
    auth = account.get("auth")
    access = (auth.get("accessToken") if isinstance(auth, Mapping) else None) or {}
    if access.get("role") == "read":
        raise ExportError(
            f"the token of {user} may only read: make one with write access (https://huggingface.co/settings/tokens) "
            "and log in with it (`hf auth login`), or set HF_TOKEN to it"
        )
    orgs = {str(one.get("name")): one for one in account.get("orgs") or () if isinstance(one, Mapping)}
    if owner != user and owner not in orgs:
        known = ", ".join([user, *sorted(orgs)])
        raise ExportError(f"the token of {user} may not write to {owner!r}: it belongs to {known}. Check the name")
    if owner != user and orgs[owner].get("roleInOrg") == "read":
        raise ExportError(f"{user} may only read in {owner}: ask its owners for the right to write")
    fine = access.get("fineGrained")
    if (
        access.get("role") == "fineGrained"
        and isinstance(fine, Mapping)
        and not _allows(fine, owner, f"{owner}/{name}")
    ):
        raise ExportError(
            f"the fine-grained token of {user} has no right to write to {owner}/{name}: add “Write access to contents” "
            "of that account's repositories (https://huggingface.co/settings/tokens)"
        )
    return f"{owner}/{name}"


def _allows(fine: Mapping[str, Any], owner: str, repo_id: str) -> bool:
    scoped = [one for one in fine.get("scoped") or () if isinstance(one, Mapping)]
    return any(
        (one.get("entity") or {}).get("name") in (owner, repo_id) and "repo.write" in (one.get("permissions") or ())
        for one in scoped
    )


def look(api: Any, repo_id: str, branch: str | None, token: str | None) -> HubPlace:
    """Return what a branch of a repository holds; asks, and writes nothing.

    Raises:
        ExportError: if the Hub cannot be asked.
    """
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = api.repo_info(repo_id, repo_type="model", files_metadata=True)
        private, main = bool(info.private), info
        if branch is not None:
            try:
                info = api.repo_info(repo_id, repo_type="model", revision=branch, files_metadata=True)
            except RevisionNotFoundError:
                return HubPlace(repo_id, branch, True, bool(main.private))
    except RepositoryNotFoundError:
        return HubPlace(repo_id, branch)
    except Exception as error:  # the Hub's client raises its HTTP library's own classes, which differ by version
        failure = explained(error, repo_id, token)
    else:
        return HubPlace(repo_id, branch, True, private, info.sha, dict(_files(info.siblings or ())))
    raise failure


def _files(siblings: Iterable[Any]) -> Iterable[tuple[str, HeldFile]]:
    for one in siblings:
        if one.rfilename == ATTRIBUTES:
            continue
        large = one.lfs is not None
        identity = one.lfs.sha256 if large else one.blob_id
        yield one.rfilename, HeldFile(int(one.size or 0), str(identity or ""), large)


def same_content(folder: Path, names: Iterable[str], remote: Mapping[str, HeldFile]) -> bool:
    """Return whether a branch holds exactly these files of a folder; weights are read only where all else is equal."""
    names = list(names)
    if set(names) != set(remote) or any((folder / name).stat().st_size != remote[name].size for name in names):
        return False
    by_size = sorted(names, key=lambda name: remote[name].size)
    return all(content_id(folder / name, large=remote[name].large) == remote[name].id for name in by_size)


def content_id(path: Path, *, large: bool) -> str:
    """Return what the Hub calls the content of a file: its SHA-256, or git's name of it."""
    digest = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
