"""Whether two machines have the same checkpoint, found without reading all of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from evomerge.errors import CheckpointError

SAMPLES = 64
"""Places of each weight file that are read."""

SAMPLE_BYTES = 4096


def fingerprint(folder: Path) -> str:
    """Return a SHA-256 (hex) of a checkpoint: config.json, and of each weight file its size, its header and samples.

    The samples are spread evenly over the file, the last bytes included, so another model of the same shape, a cut or
    half-copied file show; a single changed number may not. For every byte there is `content_hash` of a checkpoint.

    Raises:
        CheckpointError: if a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        digest.update((folder / "config.json").read_bytes())
        for path in sorted(folder.glob("*.safetensors")):
            size = path.stat().st_size
            digest.update(f"\0{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                digest.update(file.read(min(length, size)))
                for k in range(SAMPLES):
                    file.seek(max(0, size - SAMPLE_BYTES) * k // (SAMPLES - 1))
                    digest.update(file.read(SAMPLE_BYTES))
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename}: {error.strerror or error}") from error
    return digest.hexdigest()
