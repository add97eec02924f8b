"""The tensors of a model's folder, whatever its weights are stored as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files.checkpoint import SafetensorsCheckpoint, TensorSource
from evomerge.recipe import ModelSource


def open_tensors(folder: Path, source: ModelSource, config: Any) -> TensorSource:
    """Return the tensors of a folder; headers are read, no weights.

    Args:
        folder: the folder.
        source: what named it, with what it permits.
        config: its transformers configuration.

    Raises:
        CheckpointError: if there are none, they are damaged, or they are stored in a way that cannot be merged.
    """
    if getattr(config, "quantization_config", None) is not None:
        raise CheckpointError(f"{source.path} is quantised; merge the unquantised model and quantise the result")
    return SafetensorsCheckpoint(folder)
