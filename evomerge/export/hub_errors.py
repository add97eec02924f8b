"""What the Hub's client says when something goes wrong, in words that say what to do, and without the token."""

from __future__ import annotations

from evomerge.errors import ExportError

_STORAGE = ("storage", "quota", "payment", "billing", "upgrade your plan")


def explained(error: BaseException, repo_id: str, token: str | None) -> ExportError:
    """Return the error that people see for one of the Hub's client."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    causes = list(_chain(error))
    said = next((text for one in causes if (text := getattr(one, "server_message", None))), None) or causes[-1]
    reason = " ".join(f"{type(error).__name__}: {said}".split())
    if token:
        reason = reason.replace(token, "***")
    responses = [response for one in causes if (response := getattr(one, "response", None)) is not None]
    status = next((one.status_code for one in responses if getattr(one, "status_code", None)), None)
    if any(isinstance(one, OfflineModeIsEnabled) for one in causes):
        return ExportError("the Hub client is in offline mode: unset HF_HUB_OFFLINE to push")
    if status == 401:
        return ExportError(f"the Hub does not accept the token: log in again with `hf auth login` ({reason})")
    if status in (402, 403, 413) and any(word in reason.lower() for word in _STORAGE):
        return ExportError(
            f"the Hub has no room for {repo_id}: make room in the account's storage, push it with --public (public "
            f"models have a limit of their own), or under another account ({reason}). What arrived is not sent again"
        )
    if status in (403, 404):
        return ExportError(
            f"the token may not write {repo_id}: check the name, and that the token has write access to it ({reason})"
        )
    if status == 412:
        return ExportError(
            f"somebody else changed {repo_id} while this was pushed, so nothing was committed: look at it, and push "
            f"again ({reason})"
        )
    if status == 429:
        return ExportError(
            f"the Hub asks for a pause: push again in some minutes ({reason}). What arrived is not sent again"
        )
    lost = any(
        word in type(one).__name__ for one in causes for word in ("Connect", "Timeout", "Network", "RemoteProtocol")
    )
    if lost or (status is None and any(isinstance(one, OSError) for one in causes)):
        return ExportError(
            f"the Hub is out of reach ({reason}). Push again when you are online: what arrived is not sent again"
        )
    return ExportError(f"the upload to {repo_id} failed ({reason}). It can be repeated: what arrived is not sent again")


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and what it came from: the client wraps what goes wrong in one of its threads."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found:
        found.append(one)
        one = one.__cause__
    return found
