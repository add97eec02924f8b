"""Whether weights in the cache of the Hub are what the Hub says: each file is read once, and known from then on.

The cache names a large file by its SHA-256. What other programs brought, or a failing disk changed, is found by it.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError, RunError
from evomerge.merge.files.weights import weight_files
from evomerge.system.files import write_atomically

_SHA256 = re.compile(r"[0-9a-f]{64}")
_AT_ONCE = 4
_WRITING = threading.Lock()

Sound = Callable[[Path], bool]
"""Reads a file of the cache, and returns whether its content has the hash that is its name."""


def _record() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "evomerge" / "checked.json"


def _known() -> dict[str, Any]:
    try:
        found = json.loads(_record().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _signature(blob: Path) -> list[int]:
    stat = blob.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def note_checked(blobs: Iterable[Path]) -> None:
    """Remember that files of the cache have the right content, as long as they are not written to."""
    place = _record()
    with _WRITING, contextlib.suppress(OSError, RunError):  # a cache that may only be read is checked each time
        known = _known() | {str(blob): _signature(blob) for blob in blobs}
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, json.dumps({name: known[name] for name in sorted(known) if Path(name).exists()}))


def unchecked(folder: Path) -> list[tuple[Path, Path]]:
    """Return the large files of a model's weights in the cache that were not checked: name in its folder, and place."""
    try:
        files = weight_files(folder)
    except CheckpointError:
        return []  # whoever opens it says so
    known, found = _known(), []
    for path in files:
        blob = path.resolve()
        if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) and known.get(str(blob)) != _signature(blob):
            found.append((path, blob))
    return found


def check(files: Iterable[tuple[Path, Path]], sound: Sound) -> list[Path]:
    """Read files of the cache, take away those that are damaged, and return their names."""
    listed = list(files)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="check") as pool:
        right = list(pool.map(sound, [blob for _, blob in listed]))
    note_checked(blob for (_, blob), fine in zip(listed, right, strict=True) if fine)
    damaged = [one for one, fine in zip(listed, right, strict=True) if not fine]
    for path, blob in damaged:
        blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    return [path for path, _ in damaged]
