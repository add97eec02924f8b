"""Whether a GGUF file holds the model of a folder: its tensors are counted, and some of them compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.errors import ExportError
from evomerge.merge.files.formats.gguf_table import gguf_library
from evomerge.merge.files.model import open_checkpoint
from evomerge.recipe import ModelSource

COMPARED = ("token_embd.weight", ".attn_output.weight", ".ffn_down.weight", "output.weight")
"""Tensors that the converter neither permutes nor shifts, as it does queries, keys and some norms."""

TOLERANCE = {"f32": 1e-6, "f16": 2e-3, "bf16": 1e-2, "q8_0": 2e-2}
"""Largest ‖a − b‖ / ‖a‖ of a compared tensor, by type; any other type may round by up to `COARSE`."""

COARSE = 0.6
"""A tensor of 2 bits is off by about half; one of another model by more than 1."""


def check_gguf(file: Path, folder: Path, kind: str) -> str:
    """Compare a file with the folder that it was made of.

    Args:
        file: the GGUF file.
        folder: the model's folder.
        kind: the type of most of its weights.

    Returns:
        What was found, in words.

    Raises:
        ExportError: if it cannot be read, holds fewer tensors than the model has, or other values.
    """
    library = gguf_library()
    try:
        reader = library.GGUFReader(str(file))
        tensors = {str(one.name): one for one in reader.tensors}
        architecture = str(bytes(reader.get_field("general.architecture").parts[-1]), "utf-8")
    except Exception as error:  # the library raises whatever numpy and struct raise
        raise ExportError(f"the converter's file cannot be read back: {error}") from error
    model = open_checkpoint(ModelSource(str(folder)))
    names = _names(library, architecture, model)
    lost = [name for name in names if name not in tensors]
    if lost or not tensors:
        shown = ", ".join(lost[:5])
        raise ExportError(f"the converter's file lacks {len(lost)} of the model's {len(names)} tensors: {shown}")
    compared = 0
    for name, own in _chosen(names):
        found = library.quants.dequantize(tensors[name].data, tensors[name].tensor_type)
        wanted = model.load(own).float().numpy()
        off = _error(wanted, np.asarray(found, dtype=np.float32).reshape(-1))
        allowed = TOLERANCE.get(str(tensors[name].tensor_type.name).lower(), COARSE)
        if not off <= allowed:
            raise ExportError(
                f"the converter's file holds other values than the model in {name} ({own}): they differ by {off:.2g} "
                f"of their size, where {kind} allows {allowed:.2g}"
            )
        compared += 1
    return f"read back with {len(tensors)} tensors, {compared} of them compared with the model's"


def _names(library: Any, architecture: str, model: Any) -> Mapping[str, str]:
    """Return GGUF's name of each tensor of a model that the library knows one for, to the model's."""
    kind = next((key for key, one in library.MODEL_ARCH_NAMES.items() if one == architecture), None)
    if kind is None:
        return {}
    table = library.get_tensor_name_map(kind, max(1, model.architecture.n_layers))
    found = {}
    for name in model.tensors.infos:
        made = table.get_name(name, try_suffixes=(".weight", ".bias"))
        if made is not None and model.naming.targets.get(name) is not None:
            found[made] = name
    return found


def _chosen(names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield a few tensors: of each kind that can be compared the first and the last."""
    for end in COMPARED:
        own = [name for name in names if name.endswith(end)]
        for name in dict.fromkeys(own[:1] + own[-1:]):
            yield name, names[name]


def _error(wanted: np.ndarray, found: np.ndarray) -> float:
    flat = wanted.reshape(-1)
    if flat.shape != found.shape:
        return float("inf")
    size = float(np.linalg.norm(flat.astype(np.float64)))
    return float(np.linalg.norm(flat.astype(np.float64) - found)) / size if size else float(np.abs(found).max())
