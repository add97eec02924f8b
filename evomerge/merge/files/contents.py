"""What decides the answers of a checkpoint, file by file: weights, configuration, tokenizer, template, code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evomerge.errors import CheckpointError
from evomerge.merge.files.belongings import GENERATION, belongings, code_files
from evomerge.merge.files.weights import weight_files
from evomerge.system.contents import Content, content_of

WEIGHTS = "weights"
"""The part of a checkpoint that takes long to read."""

_IGNORED = ("_name_or_path", "name_or_path", "transformers_version")
"""Keys of its JSON files that say where it comes from."""


def checkpoint_files(folder: Path, *, trust_remote_code: bool = False) -> dict[str, str]:
    """Return the files of a checkpoint that decide its answers, those that transformers loads: name to part.

    Raises:
        CheckpointError: if the folder has no weights that can be read.
        OSError: if the folder cannot be read.
    """
    found = {path.relative_to(folder).as_posix(): WEIGHTS for path in weight_files(folder)}
    found["config.json"] = "configuration"
    if (folder / GENERATION).is_file():
        found[GENERATION] = "generation settings"
    for name in belongings(folder, trust_remote_code=trust_remote_code):
        found[name] = "chat template" if name.endswith(".jinja") or name == "chat_template.json" else "tokenizer"
    return {**found, **dict.fromkeys(code_files(folder), "code")}


def checkpoint_contents(
    folder: Path, known: Mapping[str, Content], *, trust_remote_code: bool = False
) -> dict[str, tuple[str, Content]]:
    """Return part and content of each file that decides a checkpoint's answers; every byte counts.

    Args:
        folder: the checkpoint.
        known: file name to what was known of it before; files whose signature is as known are not read.
        trust_remote_code: whether the folder's own tokenizer class may be imported, to ask for its files.

    Raises:
        CheckpointError: if a file cannot be read.
    """
    found: dict[str, tuple[str, Content]] = {}
    try:
        for name, part in checkpoint_files(folder, trust_remote_code=trust_remote_code).items():
            # Where these say the same in other words, nothing changed.
            ignored = _IGNORED if name.endswith("config.json") else None
            found[name] = part, content_of(folder / name, known.get(name), ignored=ignored)
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename}: {error.strerror or error}") from error
    return found
