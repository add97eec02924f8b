"""Whether two machines have the same checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from evomerge.errors import CheckpointError
from evomerge.merge.files.belongings import GENERATION, belongings, code_files
from evomerge.merge.files.weights import weight_files
from evomerge.system.contents import pieces

WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"})
"""Ends of files that are no small ones."""

SAMPLES = 64
"""How many samples of a weight file are read if not all of it is."""

SAMPLE_BYTES = 4096


def fingerprint(folder: Path, *, whole: bool = False) -> str:
    """Return a SHA-256 (hex) of all that decides a checkpoint's answers, whatever the folder is called.

    These are its configuration, generation settings, tokenizer with chat templates, Python files, and the weights that
    transformers would load; what else lies in the folder does not count.

    Args:
        folder: the checkpoint.
        whole: whether to read every byte, which takes some seconds for each ten GiB and leaves the files in memory. If
            not, each weight file counts by its size, its header and samples spread evenly over it, the last bytes
            included: another model of the same shape or a half-copied file is detected, a single changed number may
            not be.

    Raises:
        CheckpointError: if a file cannot be read, or the folder has no weights.
    """
    digest = hashlib.sha256()
    try:
        for name in small_files(folder):
            content = (folder / name).read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        for path in weight_files(folder):
            digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
            for part in pieces(path) if whole else _samples(path):
                digest.update(part)
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename}: {error.strerror or error}") from error
    return digest.hexdigest()


def small_files(folder: Path) -> tuple[str, ...]:
    """Return the files beside the weights that decide a model's answers, relative to its folder and in order.

    A file counts, too, if Python code beside it names it: a tokenizer class of its own may read it. No code is run.
    """
    code = code_files(folder)
    found = {"config.json", GENERATION, *belongings(folder)}
    if code:
        text = "\n".join((folder / name).read_text(encoding="utf-8", errors="replace") for name in code)
        there = {path.name for path in folder.iterdir() if path.suffix not in WEIGHTS}
        found |= {name for name in there if f'"{name}"' in text or f"'{name}'" in text}
    return (*sorted(name for name in found if (folder / name).is_file()), *code)


def _samples(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        # The header of safetensors has its length before it; other formats begin with a mark.
        length = int.from_bytes(file.read(8), "little") if path.suffix == ".safetensors" else SAMPLE_BYTES
        yield file.read(min(length, size))
        for k in range(SAMPLES):
            file.seek(max(0, size - SAMPLE_BYTES) * k // (SAMPLES - 1))
            yield file.read(SAMPLE_BYTES)
