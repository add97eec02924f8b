"""Models on the Hugging Face Hub: which files of a repository are needed, and their download into the Hub's cache."""

from __future__ import annotations

import json
from pathlib import Path

from evomerge.errors import CheckpointError
from evomerge.merge.files.belongings import GENERATION, is_belonging
from evomerge.merge.files.weights import INDEX, weights_name
from evomerge.recipe import ModelSource

_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.codes", "*.py")


def download(source: ModelSource) -> Path:
    """Return the folder of a Hub model in the cache, which is downloaded where it is not there.

    Raises:
        CheckpointError: if there is no such repository or revision, it is gated, or the Hub cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub import errors

    what = source.path if source.revision is None else f"{source.path} at revision {source.revision}"
    try:
        wanted = _wanted(source)
        folder = Path(huggingface_hub.snapshot_download(source.path, revision=source.revision, allow_patterns=wanted))
        explicit = _explicit_weights(folder)
        if explicit is not None and explicit not in wanted:
            patterns = [*wanted, explicit, *(["*.safetensors"] if explicit.endswith(".json") else [])]
            folder = Path(
                huggingface_hub.snapshot_download(source.path, revision=source.revision, allow_patterns=patterns)
            )
        return folder
    except errors.GatedRepoError as error:
        raise CheckpointError(f"{what} is gated: accept its terms on the Hub, then run `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"the Hub has {source.path}, but not its revision {source.revision!r}") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise CheckpointError(
            f"there is neither a folder nor a Hub model {source.path!r} (a private one needs `hf auth login`)"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"{what} is neither a local folder nor in the cache, and the Hub cannot be reached. Check the path; or "
            f"connect and run `hf download {source.path}`; or give the path of a downloaded folder"
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"cannot download {what}: {error}") from error


def _wanted(source: ModelSource) -> list[str]:
    """Return the files of a Hub repository that are needed: what transformers would load, and nothing else.

    Without a connection to the Hub it is not known what the repository holds, so patterns find what is in the cache.
    """
    import huggingface_hub

    try:
        names = set(huggingface_hub.HfApi().list_repo_files(source.path, revision=source.revision))
    except Exception:  # no connection, no such repository …: the download says what it is
        return list(_PATTERNS)
    wanted = {"config.json", GENERATION, "adapter_config.json"} & names
    wanted |= {name for name in names if is_belonging(name)}
    first = weights_name(names, None)
    if first == INDEX:  # what it names is known only when it is here
        wanted |= {name for name in names if "/" not in name and _is_shard(name)}
    if first is not None:
        wanted.add(first)
    if source.trust_remote_code:
        wanted |= {name for name in names if name.endswith(".py") and "/" not in name}
    return sorted(wanted)


def _is_shard(name: str) -> bool:
    # The others are the same weights in another form.
    return name.endswith(".safetensors") and not name.startswith(("consolidated", "adapter_model"))


def _explicit_weights(folder: Path) -> str | None:
    """Return the file that config.json names as its weights, if it does and it is not there."""
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("transformers_weights")
    except (OSError, ValueError, AttributeError):
        return None
    return named if isinstance(named, str) and not (folder / named).exists() else None
