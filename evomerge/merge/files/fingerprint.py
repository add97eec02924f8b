"""Whether two machines have the same checkpoint."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from evomerge.errors import CheckpointError

SMALL_FILES = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "vocab.json",
    "vocab.txt",
)
"""Further files that decide a model's answers, where they exist."""

SAMPLES = 64
"""How many samples of a weight file are read if not all of it is."""

SAMPLE_BYTES = 4096

PIECE_BYTES = 64 << 20
"""The size of the pieces in which whole files are hashed, in bytes; several threads hash at once, without Python's
lock."""


def fingerprint(folder: Path, *, whole: bool = False) -> str:
    """Return a SHA-256 (hex) of a checkpoint: its configuration, tokenizer and weights.

    Args:
        folder: the checkpoint.
        whole: whether to read every byte, which takes some seconds for each ten GiB and leaves the files in memory. If
            not, each weight file counts by its size, its header and samples spread evenly over it, the last bytes
            included: another model of the same shape or a half-copied file is detected, a single changed number may
            not be.

    Raises:
        CheckpointError: if a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        digest.update((folder / "config.json").read_bytes())
        for name in SMALL_FILES:
            if (folder / name).is_file():
                digest.update(f"\0{name}\0".encode() + (folder / name).read_bytes())
        for path in sorted(folder.glob("*.safetensors")):
            digest.update(f"\0{path.name}\0{path.stat().st_size}\0".encode())
            for part in _pieces(path) if whole else _samples(path):
                digest.update(part)
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename}: {error.strerror or error}") from error
    return digest.hexdigest()


def _samples(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        yield file.read(min(length, size))
        for k in range(SAMPLES):
            file.seek(max(0, size - SAMPLE_BYTES) * k // (SAMPLES - 1))
            yield file.read(SAMPLE_BYTES)


def _pieces(path: Path) -> Iterator[bytes]:
    """Yield the digests of a file's pieces, in order."""

    def digest(start: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(PIECE_BYTES)).digest()

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        yield from threads.map(digest, range(0, path.stat().st_size, PIECE_BYTES))
