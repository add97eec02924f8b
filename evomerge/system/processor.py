"""The processor of a model's folder, which makes a model's inputs of texts and images."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError

INSTALL = "pip install 'evomerge[vision]'"
"""How to get what images need."""


def has_pillow() -> bool:
    """Return whether the package is there that reads images."""
    return importlib.util.find_spec("PIL") is not None


def load_processor(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Return the processor of a model's folder; images are read by Pillow, unless torchvision is installed.

    Raises:
        CheckpointError: if there is none, transformers cannot load it, or Pillow is missing.
    """
    if not has_pillow():
        raise CheckpointError(f"images are read by Pillow, which is not installed: {INSTALL}")
    from transformers import AutoProcessor

    try:
        found = AutoProcessor.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises almost anything on missing or broken files
        text = str(error) or type(error).__name__
        raise CheckpointError(f"{folder} has no processor that transformers can load: {text}") from error
    if not hasattr(found, "image_processor"):  # for want of files, transformers returns the tokenizer alone
        raise CheckpointError(
            f"{folder} has no files that say how images are read (processor_config.json or preprocessor_config.json)"
        )
    return found
