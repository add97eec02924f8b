"""The content of a file: its SHA-256, and what tells without reading whether it is still the file that was read."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIECE_BYTES = 64 << 20
"""The size of the pieces in which files are hashed, in bytes; several threads hash at once, without Python's lock."""

SETTLED_NS = 2_000_000_000
"""A file that changed so shortly before it was read may change again within one tick of the file system's clock."""


@dataclass(frozen=True)
class Content:
    """The content of a file.

    Attributes:
        digest: SHA-256 (hex) over the SHA-256s of the file's pieces.
        signature: size, mtime and ctime in ns, inode, device. Whoever changes the file and puts its mtime back cannot
            put its ctime back. Empty: the file is to be read each time.
    """

    digest: str
    signature: tuple[int, ...] = ()

    def to_data(self) -> list[Any]:
        """Return the fields as JSON data."""
        return [self.digest, *self.signature]

    @classmethod
    def from_data(cls, data: list[Any]) -> Content:
        """Return what `to_data` wrote."""
        return cls(str(data[0]), tuple(int(one) for one in data[1:]))


def content_of(path: Path, known: Content | None = None, *, ignored: Collection[str] | None = None) -> Content:
    """Return the content of a file; one whose signature is as known is not read.

    Args:
        path: the file.
        known: what was known of the file before.
        ignored: for a JSON file: it counts by its values, without these keys at the top; None: every byte counts.

    Raises:
        OSError: if the file cannot be read.
    """
    found = path.stat()
    signature = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)
    if known is not None and known.signature == signature:
        return known
    settled = time.time_ns() - found.st_ctime_ns > SETTLED_NS
    return Content(_digest(path, ignored), signature if settled else ())


def _digest(path: Path, ignored: Collection[str] | None) -> str:
    if ignored is not None:
        try:
            values: Any = json.loads(path.read_bytes())
        except ValueError:
            pass  # it counts by its bytes
        else:
            if isinstance(values, Mapping):
                values = {key: value for key, value in values.items() if key not in ignored}
            return digest_of(values)
    whole = hashlib.sha256()
    for part in pieces(path):
        whole.update(part)
    return whole.hexdigest()


def digest_of(value: Any) -> str:
    """Return the SHA-256 (hex) of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def pieces(path: Path) -> Iterator[bytes]:
    """Yield the SHA-256s of a file's pieces of `PIECE_BYTES`, in order.

    Raises:
        OSError: if the file cannot be read.
    """
    size = path.stat().st_size
    if size <= PIECE_BYTES:  # no threads for a small file
        yield hashlib.sha256(path.read_bytes()).digest()
        return

    def digest(start: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(PIECE_BYTES)).digest()

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        yield from threads.map(digest, range(0, size, PIECE_BYTES))
