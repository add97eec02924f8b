"""The tensors of a model's folder, whatever its weights are stored as.

- `quantised.py`: by which method a checkpoint is quantised, and why most of them cannot be merged
- `fp8.py`: 8-bit floating-point weights with scales, dequantised as they are read
- `pickles.py`: `pytorch_model.bin`, where it is permitted
- `gguf_table.py`: what a GGUF file holds; `gguf_folder.py`: the folder with configuration and tokenizer that is made of
  it; `gguf_tensors.py`: its tensors under the model's own names, dequantised as they are read

Safetensors are read by `evomerge.merge.files.checkpoint`; which of a folder's files count is decided by
`evomerge.merge.files.weights`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evomerge.merge.files.checkpoint import TensorSource
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
    # Finding a model's folder needs a part of this package, and no torch.
    from evomerge.merge.files.checkpoint import SafetensorsCheckpoint
    from evomerge.merge.files.formats.fp8 import Fp8Checkpoint
    from evomerge.merge.files.formats.gguf_tensors import GgufCheckpoint
    from evomerge.merge.files.formats.pickles import PickleCheckpoint
    from evomerge.merge.files.formats.quantised import fp8_blocks, quantisation_of
    from evomerge.merge.files.weights import GGUF_TABLE, first_file, is_pickle

    first = first_file(folder)
    if first.name == GGUF_TABLE:
        return GgufCheckpoint(folder, config)
    quantisation = quantisation_of(config)
    blocks = None if quantisation is None else fp8_blocks(quantisation, source.label)
    if is_pickle(first):
        return PickleCheckpoint(folder, permitted=source.allow_pickle, quantised=quantisation is not None)
    if quantisation is not None:
        return Fp8Checkpoint(folder, blocks)
    return SafetensorsCheckpoint(folder)


__all__ = ["open_tensors"]
