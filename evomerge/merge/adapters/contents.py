"""What decides the answers of a model, file by file, those of an adapter on top of it included."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from evomerge.errors import CheckpointError
from evomerge.merge.adapters.model import AdapterModel
from evomerge.merge.adapters.names import adapter_of, base_of
from evomerge.merge.adapters.weights import adapter_file
from evomerge.merge.files.belongings import GENERATION, belongings
from evomerge.merge.files.contents import checkpoint_contents
from evomerge.merge.files.fingerprint import fingerprint
from evomerge.merge.files.locate import ADAPTER, locate, locate_any
from evomerge.merge.files.model import OpenModel
from evomerge.recipe import ModelSource
from evomerge.system.contents import Content, content_of

PREFIX = "adapter/"
"""Before the names of an adapter's files, beside those of the model below it."""


def locate_both(source: ModelSource) -> tuple[Path, Path | None]:
    """Return the folder of a whole model, and that of the adapter on top of it, if there is one.

    Raises:
        CheckpointError: if one of them cannot be found.
    """
    adapter = adapter_of(source)
    if adapter is None:
        return locate(source), None
    return locate(source if source.adapter == source.path else base_of(source)), locate_any(adapter)


def model_contents(source: ModelSource, known: Mapping[str, Content]) -> dict[str, tuple[str, Content]]:
    """Return part and content of each file that decides a model's answers; every byte counts.

    Args:
        source: the model, with or without an adapter, whose files are called `adapter/NAME`.
        known: file name to what was known of it before; files whose signature is as known are not read.

    Raises:
        CheckpointError: if a file cannot be read.
    """
    folder, adapter = locate_both(source)
    found = checkpoint_contents(folder, known, trust_remote_code=source.trust_remote_code)
    if adapter is None:
        return found
    try:
        for name, part in _files(adapter, allow_pickle=source.allow_pickle).items():
            found[PREFIX + name] = part, content_of(adapter / name, known.get(PREFIX + name))
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename}: {error.strerror or error}") from error
    return found


def model_fingerprint(opened: OpenModel, *, whole: bool = False) -> str:
    """Return the `fingerprint` of an opened checkpoint; of one with an adapter, every byte of the adapter counts.

    Raises:
        CheckpointError: as `fingerprint`.
    """
    adapter = opened.tensors.file.path.parent if isinstance(opened, AdapterModel) else None
    return _fingerprint(opened.folder, adapter, whole=whole)


def source_fingerprint(source: ModelSource, *, whole: bool = False) -> str:
    """Return the same of what names it, without opening it.

    Raises:
        CheckpointError: as `fingerprint`, or if it cannot be found.
    """
    return _fingerprint(*locate_both(source), whole=whole)


def _fingerprint(folder: Path, adapter: Path | None, *, whole: bool) -> str:
    below = fingerprint(folder, whole=whole)
    if adapter is None:
        return below
    digest = hashlib.sha256(below.encode())
    for name in _files(adapter, allow_pickle=True):
        digest.update(f"{name}\0{content_of(adapter / name).digest}\0".encode())
    return digest.hexdigest()


def _files(folder: Path, *, allow_pickle: bool) -> dict[str, str]:
    """Return the files of an adapter that decide answers: name to part."""
    found = {ADAPTER: "adapter", adapter_file(folder, allow_pickle=allow_pickle).name: "adapter"}
    if (folder / GENERATION).is_file():
        found[GENERATION] = "generation settings"
    for name in belongings(folder):
        found[name] = "chat template" if name.endswith(".jinja") or name == "chat_template.json" else "tokenizer"
    return found
