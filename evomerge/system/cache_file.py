"""Files that save work and may be lost: kept in the user's cache folder, and made again where one cannot be used.

A file holds a stamp, which says what the data was made from, and a checksum. One that is damaged, of another stamp or
cannot be read counts as absent; one that cannot be written is not written. Nothing of that is an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from evomerge.errors import RunError
from evomerge.system.files import write_atomically


def cache_folder() -> Path:
    """Return the folder of such files: `evomerge` in XDG_CACHE_HOME, by default `~/.cache` (XDG base directories).

    Raises:
        RuntimeError: if neither that variable nor a home folder is known.
    """
    # The specification asks for relative paths in the variable to be ignored.
    said = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (said if said.is_absolute() else Path.home() / ".cache") / "evomerge"


def read_cached(name: str, stamp: str) -> Any:
    """Return the JSON data that `write_cached` kept under a name, or None if there is none with this stamp."""
    try:
        head, _, body = (cache_folder() / name).read_bytes().partition(b"\n")
        if head.decode() != _head(stamp, body):
            return None
        return json.loads(body)
    except (OSError, ValueError, RuntimeError):
        return None


def write_cached(name: str, stamp: str, data: Any) -> None:
    """Keep JSON data under a name in place of what was there, if that is possible."""
    body = json.dumps(data, ensure_ascii=True, separators=(",", ":")).encode()
    with contextlib.suppress(OSError, RunError, RuntimeError):
        path = cache_folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _head(stamp, body).encode() + b"\n" + body)


def _head(stamp: str, body: bytes) -> str:
    return f"{stamp} {hashlib.sha256(body).hexdigest()}"
