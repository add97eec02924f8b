"""What went wrong with the Hub, in words: what was asked for, what came, and what to do."""

from __future__ import annotations

from typing import Any

from evomerge.errors import CheckpointError, unknown_name


class UnreachableError(Exception):
    """The Hub cannot be reached; what the cache has may still do."""


MALFORMED: tuple[type[Exception], ...] = (ValueError, TypeError, KeyError, AttributeError)
"""What huggingface_hub raises on an answer that is none of the Hub's: a login page of a network, a proxy's words."""


def any_error() -> tuple[type[Exception], ...]:
    """Return the classes of errors that requests to the Hub raise."""
    from huggingface_hub import errors

    # The base of all errors of the library that makes the requests, whichever that is.
    return (vars(errors)["HTTPError"], OSError, errors.HFValidationError)


def is_foreign(error: Exception) -> bool:
    """Return whether an error is about an answer that is none of the Hub's, or about a request that cannot be made."""
    return isinstance(error, MALFORMED) and not isinstance(error, any_error())


def foreign(what: str) -> UnreachableError:
    """Return the error for an answer that is none of the Hub's.

    Args:
        what: what is wrong with it.
    """
    from huggingface_hub import constants

    return UnreachableError(
        f"{constants.ENDPOINT} does not answer as the Hub does ({what}): look for a login page of this network, a "
        "proxy, or a wrong HF_ENDPOINT"
    )


def status_of(error: Exception) -> int | None:
    """Return the HTTP status of an answer that was an error; None: there was no answer."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def retry_after(error: Exception) -> float | None:
    """Return after how many seconds the Hub wants to be asked again."""
    response = getattr(error, "response", None)
    try:
        return None if response is None else float(response.headers.get("Retry-After", "none"))
    except ValueError:
        return None


def is_hopeless(error: Exception) -> bool:
    """Return whether asking again at once cannot help, although there was no answer."""
    from huggingface_hub import errors

    text = f"{type(error).__name__} {error}".lower()
    unknown = ("name resolution", "name or service", "nodename", "refused", "unreachable", "getaddrinfo", "timeout")
    return isinstance(error, (errors.OfflineModeIsEnabled, errors.HFValidationError)) or any(
        one in text for one in unknown
    )


def said(error: Exception, path: str, revision: str | None, name: str | None = None) -> Exception:
    """Return the error to raise for one of huggingface_hub, with what to do about it.

    Args:
        error: what was raised.
        path: the repository.
        revision: the revision that was asked for.
        name: the file that was asked for; None: the repository.
    """
    from huggingface_hub import constants, errors

    if isinstance(error, UnicodeEncodeError):
        return CheckpointError(
            "the Hub's token on this machine (HF_TOKEN, or what `hf auth login` saved) has characters that no token "
            "has; copy it anew"
        )
    if isinstance(error, OSError) and error.filename is not None and not isinstance(error, ConnectionError):
        return CheckpointError(
            f"cannot use {error.filename}: {error.strerror}; where it belongs to the cache of the Hub, set HF_HOME to "
            "another folder"
        )
    if is_foreign(error):
        return foreign(type(error).__name__)
    what = path if revision is None else f"{path} at revision {revision}"
    if name is not None:
        what = f"{name} of {what}"
    if isinstance(error, errors.GatedRepoError):
        return CheckpointError(
            f"{path} is gated: accept its terms at {constants.ENDPOINT}/{path}, then run `hf auth login` (or set "
            f"HF_TOKEN){_who()}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(f"{path} on the Hub: {_near(path, str(revision))}")
    if isinstance(error, errors.HFValidationError):
        return CheckpointError(f"there is neither a folder nor a Hub model {path!r}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return CheckpointError(_not_found(path))
    status = status_of(error)
    if status == 401:
        return CheckpointError(
            f"the Hub refuses the token of this machine when asked for {what} (HF_TOKEN, or what `hf auth login` "
            "saved): it is wrong or has expired; run `hf auth login` anew, or unset it for public models"
        )
    if status == 403:
        return CheckpointError(
            f"the Hub refuses {what} to the token of this machine, whose permissions do not suffice: give it read "
            f"access to {path} (a fine-grained token names its repositories), or log in with another (`hf auth login`)"
        )
    if status == 404:
        return CheckpointError(f"the Hub has no {what}")
    if status == 429:
        return CheckpointError(
            f"the Hub asks to be left alone for a while ({what}: too many requests); try again later"
        )
    if status is not None:
        return CheckpointError(f"the Hub cannot give {what} now (HTTP status {status}); try again later")
    return UnreachableError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no answer'}")


def not_here(path: str, revision: str | None, reason: str, lacks: str | None) -> CheckpointError:
    """Return the error for a model that the cache does not have whole, while the Hub cannot be asked.

    Args:
        path: the repository.
        revision: the revision.
        reason: why the Hub is not asked.
        lacks: what the cache lacks of it; None: all.
    """
    what = path if revision is None else f"{path} at revision {revision}"
    download = f"hf download {path}" + ("" if revision is None else f" --revision {revision}")
    if lacks is not None:
        return CheckpointError(
            f"{what} is in the cache, but not whole ({lacks}), and {reason}. Connect and run the command again: what "
            f"is here is not downloaded twice"
        )
    return CheckpointError(
        f"{what} is neither a local folder nor in the cache, and {reason}. Check the path; or connect and run "
        f"`{download}`; or give the path of a downloaded folder"
    )


def _not_found(path: str) -> str:
    from huggingface_hub import HfApi

    api = HfApi()
    asked: list[tuple[str, Any]] = [("dataset", api.dataset_info), ("space", api.space_info)]
    for kind, info in asked if "/" in path else ():
        try:
            info(path, timeout=5)
        except any_error() + MALFORMED:
            continue
        return f"{path} is a {kind} on the Hub, not a model"
    return f"there is neither a folder nor a Hub model {path!r}; if it is private, `hf auth login` first{_who()}"


def _near(path: str, revision: str) -> str:
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(path)
    except any_error() + MALFORMED:
        return f"it has no revision {revision!r}"
    return unknown_name("revision", revision, [one.name for one in (*refs.branches, *refs.tags)])


def _who() -> str:
    """Say whether there is a token, never which."""
    from huggingface_hub import get_token

    return "" if get_token() is not None else "; nobody is logged in on this machine"
