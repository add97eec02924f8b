"""Uploading model folders to the Hub: private unless told otherwise, and without ever showing the token.

A folder is one commit, whatever happens on the way: large files go first, each of which the Hub keeps, so a push that
was interrupted and is repeated sends what is missing; the commit names all of them at once. The client's own
`upload_folder` may cut a folder into several commits, and keeps those of an interrupted push.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from evomerge.errors import ExportError
from evomerge.export.hub_errors import explained
from evomerge.export.hub_place import HubPlace, account_of, full_name, look, same_content
from evomerge.export.publishing import refuse_secrets_in_folder
from evomerge.system.text import command

MESSAGE = "Upload a merge made with evomerge"
"""The title of a push's commit."""


class HubFile(NamedTuple):
    """A file of an upload: its path in the repository, and its size in bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class Pushed:
    """What an upload did, or (of a dry run) would do.

    Attributes:
        place: the branch, as it was before.
        private: whether the repository is private now.
        files: what it holds afterwards.
        removed: files that it held before, and does not any more; its history keeps them.
        commit: the commit; None: of a dry run, or everything was there already.
        url: its address.
        pull_request: its address, where one was asked for.
        done: whether something was sent.
    """

    place: HubPlace
    private: bool
    files: tuple[HubFile, ...]
    removed: tuple[str, ...] = ()
    commit: str | None = None
    url: str | None = None
    pull_request: str | None = None
    done: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class Hub:
    """The Hub, for one account: where uploads go, and the uploads."""

    def __init__(self, token: str | None = None, *, dry_run: bool = False) -> None:
        """Find the token.

        Args:
            token: the Hub's token; None: from HF_TOKEN or `hf auth login`.
            dry_run: whether nothing is written, and the Hub is asked only where it can be.

        Raises:
            ExportError: if there is no token, which a dry run does without.
        """
        import huggingface_hub

        self.dry_run = dry_run
        self._account: Mapping[str, Any] | None = None
        self._token = token or huggingface_hub.get_token()
        if not self._token and not dry_run:
            raise ExportError(
                "the Hub needs a token to upload, and none was found: log in with `hf auth login`, or set HF_TOKEN to "
                "a token with write access (https://huggingface.co/settings/tokens)"
            )
        self.api: Any = huggingface_hub.HfApi(token=self._token or False)

    def find(
        self, repo_id: str, branch: str | None = None, *, private: bool = True, pull_request: bool = False
    ) -> HubPlace:
        """Return what is where an upload would go; this asks, and writes nothing.

        Args:
            repo_id: "org/name", or "name" for the token's own account.
            branch: None: `main`.
            private: whether it is to be private.
            pull_request: whether a change of somebody's repository is to be proposed, which needs no right to write.

        Raises:
            ExportError: if the name is none, the token may not write there, or the repository is public though a
                private one was asked for, or the other way.
        """
        check_repo_id(repo_id)
        try:
            if self._token:
                if self._account is None:  # asked once: the Hub answers few such questions
                    self._account = account_of(self.api, repo_id, self._token)
                if self._account is not None and not pull_request:
                    repo_id = full_name(self._account, repo_id)
            place = look(self.api, repo_id, branch, self._token)
        except ExportError as error:
            if not self.dry_run:
                raise
            return HubPlace(repo_id, branch, exists=None, unknown=str(error))
        if pull_request and not place.exists:
            raise ExportError(f"--pr proposes a change of a repository that is there, but there is no {repo_id}")
        if place.exists and place.private is not None and place.private != private and not pull_request:
            kinds = ("public", "private") if private else ("private", "public")
            hint = "push with --public" if private else "push without --public"
            raise ExportError(
                f"{repo_id} exists on the Hub and is {kinds[0]}, but a {kinds[1]} upload was asked for. Choose another "
                f"name, make that repository {kinds[1]} in its settings, or {hint}"
            )
        return place

    def prepare(self, place: HubPlace, *, private: bool = True) -> HubPlace:
        """Make the repository and the branch where they are missing, and return the place with its commit.

        A new branch begins with the repository's first commit, so that it holds nothing yet.
        """
        if self.dry_run:
            return place
        try:
            if not place.exists:
                self.api.create_repo(place.repo_id, private=private, repo_type="model", exist_ok=True)
            if place.branch is not None and place.head is None:
                first = list(self.api.list_repo_commits(place.repo_id, repo_type="model"))[-1].commit_id
                self.api.create_branch(
                    place.repo_id, branch=place.branch, revision=first, repo_type="model", exist_ok=True
                )
        except Exception as error:  # the Hub's client raises its HTTP library's own classes, which differ by version
            failure = explained(error, place.repo_id, self._token)
        else:
            found = look(self.api, place.repo_id, place.branch, self._token)
            if not found.exists:
                raise ExportError(f"{place.repo_id} is there, but this token does not see it: check its rights")
            if private and not found.private and not place.exists:
                raise ExportError(f"the Hub made {place.repo_id} public, though a private one was asked for")
            return replace(place, head=found.head, files=found.files)
        raise failure

    def upload(
        self,
        folder: Path,
        place: HubPlace,
        *,
        private: bool = True,
        overwrite: bool = False,
        pull_request: bool = False,
        message: str = MESSAGE,
    ) -> Pushed:
        """Upload a model folder in one commit.

        Args:
            folder: the folder.
            place: where to, as `prepare` returned it.
            private: as in `find`.
            overwrite: whether other files that are there may be replaced; the repository's history keeps them.
            pull_request: whether the commit is proposed rather than made.
            message: title of the commit.

        Raises:
            ExportError: if the folder is no model or holds what looks like a secret, the branch holds something else,
                or the Hub refuses it or is out of reach.
        """
        files = tuple(list_files(folder))
        names = [file.path for file in files]
        refuse_secrets_in_folder(folder, names)
        found = Pushed(place, private, files)
        if place.files and same_content(folder, names, place.files):
            return found
        refuse_overwriting(place, overwrite=overwrite or pull_request, dry_run=self.dry_run)
        removed = tuple(sorted(set(place.files) - set(names)))
        if self.dry_run:
            return replace(found, removed=removed)
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations = [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in names),
            *(CommitOperationDelete(path_in_repo=name) for name in removed),
        ]
        try:
            made = self.api.create_commit(
                repo_id=place.repo_id,
                operations=operations,
                commit_message=message,
                repo_type="model",
                revision=place.branch,
                parent_commit=None if pull_request else place.head,
                create_pr=pull_request,
            )
        except Exception as error:  # the Hub's client raises its HTTP library's own classes, which differ by version
            failure = explained(error, place.repo_id, self._token)
        else:
            return replace(
                found, removed=removed, commit=made.oid, url=made.commit_url, pull_request=made.pr_url, done=True
            )
        # Raised outside of the handler, so that the client's own error, whose text may hold the token, is not chained.
        raise failure

    def collect(self, title: str, repo_id: str, notes: dict[str, str], *, private: bool = True) -> str:
        """Put repositories into a collection of the account, which is made where it is missing, and return its address.

        Args:
            title: of the collection.
            repo_id: a repository of the account.
            notes: repository to a note, in order.
            private: whether a new collection is private.
        """
        try:
            made = self.api.create_collection(
                title=title[:60], namespace=repo_id.partition("/")[0], private=private, exists_ok=True
            )
            for name, note in notes.items():
                self.api.add_collection_item(made.slug, name, "model", note=note[:500], exists_ok=True)
        except Exception as error:  # as above
            failure = explained(error, repo_id, self._token)
        else:
            return str(made.url)
        raise failure


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = True,
    dry_run: bool = False,
    token: str | None = None,
    branch: str | None = None,
    overwrite: bool = False,
    pull_request: bool = False,
    message: str = MESSAGE,
) -> Pushed:
    """Upload a model folder; `Hub.find`, `Hub.prepare` and `Hub.upload` in one.

    Args:
        folder: the folder.
        repo_id: "org/name", or "name" for the token's own account; made if it does not exist.
        private: whether a new repository is private.
        dry_run: whether only to say what would be uploaded; the Hub is asked, where it can be, and nothing is written.
        token: as in `Hub`.
        branch: made if it does not exist; None: `main`.
        overwrite: as in `Hub.upload`; so are `pull_request` and `message`.

    Raises:
        ExportError: as the three do.
    """
    folder = Path(folder).expanduser()
    check_repo_id(repo_id)
    refuse_secrets_in_folder(folder, [file.path for file in list_files(folder)])
    hub = Hub(token, dry_run=dry_run)
    place = hub.find(repo_id, branch, private=private, pull_request=pull_request)
    if place.files and not same_content(folder, [file.path for file in list_files(folder)], place.files):
        refuse_overwriting(place, overwrite=overwrite or pull_request, dry_run=dry_run)
    place = hub.prepare(place, private=private)
    options: dict[str, Any] = {"private": private, "overwrite": overwrite, "pull_request": pull_request}
    return hub.upload(folder, place, message=message, **options)


def refuse_overwriting(place: HubPlace, *, overwrite: bool, dry_run: bool = False) -> None:
    """Check that a branch holds nothing, or may be overwritten; a dry run only says so.

    Raises:
        ExportError: if it does, and may not.
    """
    if place.files and not overwrite and not dry_run:
        shown = ", ".join(sorted(place.files)[:3]) + (", …" if len(place.files) > 3 else "")
        raise ExportError(
            f"{place.name} holds other files already ({len(place.files)}: {shown}), so nothing was sent. --replace "
            "makes a commit with these files in place of those (its history keeps them), --pr proposes it as a pull "
            "request, --branch NAME puts it beside them; or choose another name"
        )


def list_files(folder: Path) -> list[HubFile]:
    """Return the files of a folder of a model, an adapter or GGUF files in order, without hidden files and folders.

    Raises:
        ExportError: if it is not a model folder.
    """
    if not folder.is_dir():
        raise ExportError(f"there is no folder {folder}; `{command('export', 'RUN', '--out', folder)}` writes one")
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    names = {path.relative_to(folder).as_posix() for path in paths}
    gguf = any(name.endswith(".gguf") for name in names)  # which has its configuration inside
    missing = [] if gguf or names & {"config.json", "adapter_config.json"} else ["config.json"]
    missing += [] if gguf or any(name.endswith(".safetensors") for name in names) else ["*.safetensors"]
    if missing:
        raise ExportError(
            f"{folder} is not a model folder: {' and '.join(missing)} missing. "
            "`evomerge export RUN --out DIR` writes one"
        )
    return [HubFile(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths]


def check_repo_id(repo_id: str) -> None:
    """Check the name of a repository.

    Raises:
        ExportError: if the Hub has no such names.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ExportError(
            f"{repo_id!r} is no name on the Hub; expected org/name, or name for your own account: {error}"
        ) from error
