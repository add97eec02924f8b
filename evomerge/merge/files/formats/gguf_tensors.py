"""The tensors of a GGUF file under the names that the model's class has, dequantised one at a time.

llama.cpp renames, permutes and splits what it converts. transformers knows how to undo that, in two ways: architectures
with a table of conversions, and older ones with a processor each that handles a tensor at a time. Both are asked here
for single tensors, so the tensors are those of `from_pretrained(folder, gguf_file=…)` in float32, without the rest of
the model in memory.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from evomerge.errors import CheckpointError
from evomerge.merge.files import pages
from evomerge.merge.files.checkpoint import TensorInfo
from evomerge.merge.files.formats.gguf_table import GgufEntry, GgufTable, gguf_library
from evomerge.merge.files.model_class import build_on_meta
from evomerge.merge.files.weights import few, gguf_data
from evomerge.system.text import error_text

log = logging.getLogger(__name__)

_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_GROUP = 256
"""Blocks in a row that the library is given: it takes 16 rows at a time, so that its temporary arrays stay small."""

_ROPE = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Scaled frequencies of a rope, which are settings in transformers and not weights."""


class GgufCheckpoint:
    """The tensors of a folder that was made of a GGUF file; see `gguf_folder.py`.

    Attributes:
        infos: shape and type of each tensor, by the names of the model's class. Values are read in float32.

    Raises:
        CheckpointError: if transformers does not know the architecture, or sizes do not fit the configuration.
    """

    mapped = False
    dequantises = True
    """Whether `load` computes what it returns, so that it is worth keeping."""

    def __init__(self, folder: Path, config: Any) -> None:
        """Open a folder.

        Args:
            folder: the folder.
            config: its transformers configuration.
        """
        self.folder = folder
        self.table = GgufTable.from_data(gguf_data(folder))
        names = _Names(self.table, build_on_meta(config))
        self._parts, self._convert = names.parts, names.convert
        result = getattr(torch, self.table.result)
        self._check(names.shapes)
        self.infos: Mapping[str, TensorInfo] = MappingProxyType(
            {name: TensorInfo(names.shapes[name], torch.float32, result) for name in self._parts}
        )
        for note in (*self.table.notes, *self._left_out()):
            log.warning("%s: %s", self.table.files[0], note)

    @property
    def storage(self) -> str:
        """How its weights are stored, for people."""
        kinds = [kind for kind, n in self.table.kinds.items() if n][:3]
        files = f" in {len(self.table.files)} files" if len(self.table.files) > 1 else ""
        return f"GGUF ({', '.join(kinds)}){files}, dequantised as it is read"

    def load(self, name: str) -> torch.Tensor:
        """Return the values of one tensor, in float32.

        Raises:
            CheckpointError: if the file cannot be read any more, or the tensor has another shape than its header says.
        """
        try:
            arrays = {part: self._dequantised(self.table.entries[part]) for part in self._parts[name]}
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot read {name} from {self.folder}: {error}") from error
        made = self._convert(name, arrays)
        if tuple(made.shape) != self.infos[name].shape:
            raise CheckpointError(
                f"{name} of {self.table.files[0]} has shape {list(made.shape)}, but its configuration asks for "
                f"{list(self.infos[name].shape)}"
            )
        return made.to(torch.float32).contiguous()

    def _dequantised(self, entry: GgufEntry) -> np.ndarray:
        """Return the values of one tensor of the file, in float32."""
        data = self._files[entry.file][entry.offset : entry.offset + entry.n_bytes]
        if len(data) != entry.n_bytes:
            raise ValueError(f"{self.table.files[entry.file]} became shorter")
        try:
            return self._values(entry, data)
        finally:
            pages.release_at(data.ctypes.data, data.nbytes)

    @staticmethod
    def _values(entry: GgufEntry, data: np.ndarray) -> np.ndarray:
        if entry.kind in _FLOATS:
            values = torch.from_numpy(np.array(data)).view(_FLOATS[entry.kind]).to(torch.float32)
            return np.asarray(values.numpy()).reshape(entry.shape)
        library = gguf_library()
        kind = library.GGMLQuantizationType[entry.kind]
        _, size = library.GGML_QUANT_SIZES[kind]
        # The values of a block do not depend on its row, so the blocks are cut into rows that numpy handles quickly.
        whole = entry.n_bytes // (size * _GROUP) * size * _GROUP
        pieces = [
            library.dequantize(part.reshape(-1, width), kind).reshape(-1)
            for part, width in ((data[:whole], size * _GROUP), (data[whole:], entry.n_bytes - whole))
            if len(part)
        ]
        return np.concatenate([*pieces, np.empty(0, np.float32)]).reshape(entry.shape)

    @cached_property
    def _files(self) -> tuple[np.ndarray, ...]:
        return tuple(np.memmap(self.folder / name, np.uint8, mode="r") for name in self.table.files)

    def _check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        problems = [
            f"{', '.join(parts)}: {n} numbers in place of {math.prod(shapes[name])} for {name}"
            for name, parts in self._parts.items()
            if (n := sum(math.prod(self.table.entries[part].shape) for part in parts)) != math.prod(shapes[name])
        ]
        if problems:
            raise CheckpointError(f"{self.table.files[0]} does not fit the configuration in it: {few(problems)}")

    def _left_out(self) -> list[str]:
        used = {part for parts in self._parts.values() for part in parts}
        unused = sorted(self.table.entries.keys() - used)
        scaled = [name for name in unused if name in _ROPE]
        others = [name for name in unused if name not in _ROPE]
        notes = []
        if scaled:
            notes.append(
                f"its rope is scaled ({', '.join(scaled)}), which transformers does not take over from a GGUF file, so "
                "that the model reads texts a little differently; put the rope settings of its original config.json "
                "into the result"
            )
        if others:
            notes.append(f"transformers has no place for {few(others)}, which the merge leaves out")
        return notes


class _Names:
    """Which tensors of a GGUF file make each tensor of a model, and how.

    Attributes:
        shapes: shape of each tensor of the model.
        parts: name in the model to the names in the file, in the order of the file.
    """

    def __init__(self, table: GgufTable, model: Any) -> None:
        self._table, self._model = table, model
        self.shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        self.parts: dict[str, tuple[str, ...]] = {}
        self._mapping = _conversions(table.architecture, model.config)
        self._patterns: dict[str, str | None] = {}
        try:
            targets = self._by_processor() if self._mapping is None else self._by_conversions()
        except Exception as error:  # transformers and gguf raise what they like on an architecture they do not know
            raise CheckpointError(_unnamed(table, error)) from error
        for part, name in targets.items():
            if name in self.shapes:
                self.parts[name] = (*self.parts.get(name, ()), part)

    def convert(self, name: str, arrays: Mapping[str, np.ndarray]) -> torch.Tensor:
        """Return a tensor of the model, made of the dequantised tensors of the file."""
        return self._process(name, arrays) if self._mapping is None else self._apply(name, arrays)

    def _by_processor(self) -> dict[str, str]:
        self._processor = _processor(self._table)
        names = self._table.names
        # Of stacked experts, the map has the name without its last part.
        found = {part: names.get(part, names.get(part.removesuffix(".weight"))) for part in self._table.entries}
        return {part: name for part, name in found.items() if name is not None}

    def _process(self, name: str, arrays: Mapping[str, np.ndarray]) -> torch.Tensor:
        made: dict[str, Any] = {"tensors": {}}
        for part, values in arrays.items():
            done = self._processor.process(
                weights=values, name=part, tensor_key_mapping=dict(self._table.names), parsed_parameters=made
            )
            if done.name is not None:  # else the processor has put it where it belongs
                made["tensors"][self._table.names[done.name]] = torch.from_numpy(np.ascontiguousarray(done.weights))
        found: torch.Tensor = made["tensors"][name]
        return found

    def _by_conversions(self) -> dict[str, str]:
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        mapping = copy.deepcopy(self._mapping)  # asking marks it as used
        assert mapping is not None
        renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
        converters = [one for one in mapping if isinstance(one, WeightConverter)]
        found = {}
        for part in self._table.entries:
            found[part], self._patterns[part] = rename_source_key(part, renamings, converters)
        return found

    def _apply(self, name: str, arrays: Mapping[str, np.ndarray]) -> torch.Tensor:
        tensors = {part: torch.from_numpy(values) for part, values in arrays.items()}
        pattern = self._patterns[next(iter(tensors))]
        if pattern is None:
            return next(iter(tensors.values()))
        assert self._mapping is not None
        converter = copy.deepcopy(
            next(one for one in self._mapping if pattern in getattr(one, "source_patterns", ()) and one.operations)
        )
        order = list(converter.source_patterns)  # gate before up, whatever their order in the file
        for part, tensor in sorted(tensors.items(), key=lambda item: order.index(self._patterns[item[0]])):
            converter.add_tensor(name, part, self._patterns[part], tensor)
        made = converter.convert(name, model=self._model, config=self._model.config)
        found = next(iter(made.values()))
        return found[0] if isinstance(found, list) else found


def names_of(table: GgufTable, model: Any) -> dict[str, str]:
    """Return the names of a file's tensors in its model; empty where transformers has a table of conversions.

    It takes seconds, since the library makes all names of an architecture anew for each module.

    Args:
        table: the table, with its settings.
        model: the model, on the meta device.

    Raises:
        CheckpointError: if transformers or the library does not know the architecture.
    """
    if has_conversions(table.architecture):
        return {}
    from transformers.modeling_gguf_pytorch_utils import get_gguf_hf_weights_map

    try:
        found: dict[str, str] = get_gguf_hf_weights_map(model, _processor(table))
    except Exception as error:  # both raise what they like on an architecture that they do not know
        raise CheckpointError(_unnamed(table, error)) from error
    return found


def _processor(table: GgufTable) -> Any:
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor

    return TENSOR_PROCESSORS.get(table.architecture, TensorProcessor)(config=dict(table.settings))


def _unnamed(table: GgufTable, error: Exception) -> str:
    return (
        f"transformers cannot name the tensors of {table.files[0]} ({table.architecture}): "
        f"{error_text(error, most=300)}"
    )


def has_conversions(architecture: str) -> bool:
    """Return whether transformers has a table of conversions for an architecture, and no processor."""
    try:
        from transformers.integrations.gguf import is_gguf_arch_supported
    except ImportError:  # older releases have processors alone
        return False
    return bool(is_gguf_arch_supported(architecture))


def _conversions(architecture: str, config: Any) -> list[Any] | None:
    if not has_conversions(architecture):
        return None
    from transformers.integrations.gguf import get_gguf_conversion_mapping

    return list(get_gguf_conversion_mapping(architecture, config))
