"""Uploading an exported folder to the Hub: private unless told otherwise, and without ever showing the token."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any, NamedTuple

from evomerge.errors import ExportError
from evomerge.export.publishing import refuse_secrets_in_folder
from evomerge.system.text import command


class HubFile(NamedTuple):
    """A file of an upload: its path in the repository, and its size in bytes."""

    path: str
    size: int


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = True,
    dry_run: bool = False,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Upload a merge made with evomerge",
) -> list[HubFile]:
    """Upload a model folder.

    Args:
        repo_id: "org/name", or "name" for the token's own account; made if it does not exist.
        private: whether a new repository is private. An existing public repository is refused unless this is False.
        dry_run: whether only to list what would be uploaded, without network and token.
        token: the Hub's token; None: from HF_TOKEN or `hf auth login`.
        revision: the branch; made if it does not exist.

    Returns:
        What was (or would be) uploaded.

    Raises:
        ExportError: if the folder is no model, a file of it holds what looks like a secret, the token is missing or may
            not write, or the Hub cannot be reached.
    """
    folder = Path(folder).expanduser()
    files = list_files(folder)
    _check_repo_id(repo_id)
    refuse_secrets_in_folder(folder, [file.path for file in files])
    if dry_run:
        return files

    import huggingface_hub

    token = token or huggingface_hub.get_token()
    if not token:
        raise ExportError(
            "the Hub needs a token to upload, and none was found: log in with `hf auth login`, or set HF_TOKEN to a "
            "token with write access (https://huggingface.co/settings/tokens)"
        )
    failure: ExportError | None = None
    try:
        _upload(huggingface_hub.HfApi(token=token), folder, repo_id, files, private, revision, message)
    except ExportError:
        raise
    except Exception as error:  # the Hub's client raises its HTTP library's own classes, which differ by version
        failure = _explained(error, repo_id, token)
    # Raised outside of the handler, so that the client's own error, whose text may hold the token, is not chained.
    if failure is not None:
        raise failure
    return files


def list_files(folder: Path) -> list[HubFile]:
    """Return the files of a model folder in order, without hidden files and folders.

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
    missing = [] if "config.json" in names else ["config.json"]
    missing += [] if any(name.endswith(".safetensors") for name in names) else ["*.safetensors"]
    if missing:
        raise ExportError(
            f"{folder} is not a model folder: {' and '.join(missing)} missing. "
            "`evomerge export RUN --out DIR` writes one"
        )
    return [HubFile(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths]


def _upload(
    api: Any, folder: Path, repo_id: str, files: list[HubFile], private: bool, revision: str | None, message: str
) -> None:
    # The client fills in the account's name where only "name" was given.
    repo_id = str(
        getattr(api.create_repo(repo_id, private=private, repo_type="model", exist_ok=True), "repo_id", repo_id)
    )
    if private and not api.repo_info(repo_id, repo_type="model").private:
        raise ExportError(
            f"{repo_id} exists on the Hub and is public, but a private upload was asked for. Choose another name, make "
            "that repository private, or push with --public"
        )
    if revision is not None:
        api.create_branch(repo_id, branch=revision, repo_type="model", exist_ok=True)
    api.upload_folder(
        repo_id=repo_id,
        folder_path=str(folder),
        repo_type="model",
        revision=revision,
        commit_message=message,
        allow_patterns=[glob.escape(file.path) for file in files],  # the listed files and no others
    )


def _check_repo_id(repo_id: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ExportError(
            f"{repo_id!r} is no name on the Hub; expected org/name, or name for your own account: {error}"
        ) from error


def _explained(error: Exception, repo_id: str, token: str) -> ExportError:
    from huggingface_hub.errors import OfflineModeIsEnabled

    reason = " ".join(f"{type(error).__name__}: {error}".replace(token, "***").split())
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, OfflineModeIsEnabled):
        return ExportError("the Hub client is in offline mode: unset HF_HUB_OFFLINE to push")
    if status == 401:
        return ExportError(f"the Hub does not accept the token: log in again with `hf auth login` ({reason})")
    if status in (403, 404):
        return ExportError(
            f"the token may not write {repo_id}: check the name, and that the token has write access to it ({reason})"
        )
    lost = any(word in type(error).__name__ for word in ("Connect", "Timeout"))
    if lost or (status is None and isinstance(error, OSError)):
        return ExportError(
            f"the Hub is out of reach ({reason}). The folder is complete: push it again when you are online"
        )
    return ExportError(f"the upload to {repo_id} failed ({reason}). It can be repeated: what arrived is not sent twice")
