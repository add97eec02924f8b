"""Opened parents, and whether they fit together: all mismatches at once, from headers and configurations only."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from evomerge.errors import CheckpointError
from evomerge.merge.architecture import Architecture, ArchitectureSummary
from evomerge.merge.checkpoint import SafetensorsCheckpoint, TensorInfo, TensorSource, few, locate
from evomerge.merge.device_copies import DeviceCopies
from evomerge.merge.kernels.engine import engine_for
from evomerge.merge.naming import Naming, find_naming
from evomerge.merge.places import Merged
from evomerge.merge.prepared import Prepared
from evomerge.recipe import ModelSource

# What changes the function that the weights compute. Everything else (token ids, dropout, caches, names) may differ.
_MATTERS = re.compile(
    r"model_type|hidden|embd|embed|intermediate|inner|ffn|layer|head|vocab_size|act|eps|rope|rotary|theta|bias|window"
    r"|softcap|scal|multiplier|expert|residual|norm|qk_|kv_|lora|state|conv|alibi|tie_word|original_max_position"
)
# Where positions are learned, another number of them shows in a shape.
_HARMLESS = re.compile(
    r"initializer|drop|aux|loss|coef|jitter|_token|cache|max_window_layers|max_position|chunk_size_feed|pretraining_tp"
    r"|^output_(attentions|hidden|router)|^return_|transformers_version|pruned"
)
TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The types that recipes name."""
_LIMIT = 12
_SERIALS = itertools.count()


class OpenModel:
    """A model whose tensors can be read one at a time: a checkpoint, or a recipe that is computed as it is read.

    Attributes:
        label: how messages call it: its path, Hub id or recipe.
        config: its transformers configuration.
        tensors: what it holds.
        folder: the checkpoint that lends config.json, generation settings and custom code.
        tokenizer_folder: the checkpoint that lends the tokenizer.
        trust_remote_code: whether custom code in `folder` may run.
        serial: a number of its own, which no other model gets even when this one is gone.
    """

    def __init__(
        self,
        *,
        label: str,
        config: Any,
        tensors: TensorSource,
        folder: Path,
        tokenizer_folder: Path,
        trust_remote_code: bool,
    ) -> None:
        self.label = label
        self.config = config
        self.tensors = tensors
        self.folder = folder
        self.tokenizer_folder = tokenizer_folder
        self.trust_remote_code = trust_remote_code
        self.serial = next(_SERIALS)
        self._checked: set[str] = set()

    @cached_property
    def architecture(self) -> Architecture:
        """Roles and layers of its tensors."""
        return Architecture(self.config, trust_remote_code=self.trust_remote_code)

    @cached_property
    def naming(self) -> Naming:
        """How its tensors fill the parameters of its model class."""
        try:
            return find_naming(self.tensors.infos, self.architecture)
        except CheckpointError as error:
            raise CheckpointError(f"{self.label} does not hold what its config.json describes: {error}") from error

    @property
    def dtype(self) -> torch.dtype:
        """The type of most of its values."""
        size: dict[torch.dtype, int] = {}
        for info in self.tensors.infos.values():
            if info.dtype.is_floating_point:
                size[info.dtype] = size.get(info.dtype, 0) + info.n_bytes
        return max(size, key=lambda dtype: size[dtype], default=torch.float32)

    def load(self, name: str) -> torch.Tensor:
        """Read a tensor; the first time, check it.

        Raises:
            CheckpointError: if it holds NaN or Inf, or if a second copy of a tied tensor differs from it.
        """
        tensor = self.tensors.load(name)
        if name not in self._checked:
            if tensor.is_floating_point() and not engine_for(tensor.device).finite(tensor.contiguous()):
                kind = "NaN" if tensor.isnan().any() else "Inf"
                raise CheckpointError(f"tensor {name} of {self.label} holds {kind}; this model cannot be merged")
            for copy in self.naming.copies.get(name, ()):
                if not torch.equal(tensor, self.tensors.load(copy)):
                    raise CheckpointError(
                        f"{self.label}: config.json ties {name} and {copy}, but the files hold different values; "
                        f"set tie_word_embeddings to false there, or remove one of them"
                    )
            self._checked.add(name)
        return tensor


def open_checkpoint(source: ModelSource) -> OpenModel:
    """Open a checkpoint: its configuration and headers are read, no weights.

    Raises:
        CheckpointError: if it is missing, unreadable, quantised or of an unknown model type.
    """
    from transformers import AutoConfig

    folder = locate(source)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=source.trust_remote_code)
    except Exception as error:  # transformers raises almost anything on a broken config.json
        hint = ""
        if "trust_remote_code" in str(error):
            hint = "; if you trust its code, write {path: …, trust_remote_code: true}"
        raise CheckpointError(f"cannot read {folder / 'config.json'}{hint}: {error}") from error
    if getattr(config, "quantization_config", None) is not None:
        raise CheckpointError(f"{source.path} is quantised; merge the unquantised model and quantise the result")
    return OpenModel(
        label=source.path,
        config=config,
        tensors=SafetensorsCheckpoint(folder),
        folder=folder,
        tokenizer_folder=folder,
        trust_remote_code=source.trust_remote_code,
    )


class Family:
    """Models that were checked to fit together, under the names of a recipe's parents.

    What does not depend on a recipe's parameters is kept here, to be used again by the next candidate.

    Attributes:
        members: name and model of each parent in order, then the base if there is one (so that index -1 is the base).
        donor: index of the member that lends names, types, configuration: the base, else the first parent.
        tensors: every tensor of the result.
        prepared: results of passes over the weights, kept within a memory budget.
        copies: the members' tensors that stay on another device than the CPU.
    """

    def __init__(
        self,
        parents: Sequence[tuple[str, OpenModel]],
        base: OpenModel | None,
        prepared: Prepared | None = None,
        copies: DeviceCopies | None = None,
    ) -> None:
        self.members = (*parents, ("base", base)) if base is not None else tuple(parents)
        self.n_parents = len(parents)
        self.donor = -1 if base is not None else 0
        donor = self.model(self.donor)
        self._names = _fit(self.members, self.donor)
        self.tensors = tuple(
            Merged(name, donor.tensors.infos[name], donor.architecture.places[target])
            for name, target in donor.naming.targets.items()
        )
        self.prepared = prepared if prepared is not None else Prepared()
        self.copies = copies if copies is not None else DeviceCopies()

    def model(self, index: int) -> OpenModel:
        """Return a member by its index."""
        return self.members[index][1]

    def info(self, index: int, name: str) -> TensorInfo:
        """Return shape and type of a tensor of a member by its name in the result; nothing is read."""
        return self.model(index).tensors.infos[self._names[index][name]]

    def source(self, index: int, name: str) -> tuple[OpenModel, str]:
        """Return a member, and its own name of a tensor of the result."""
        return self.model(index), self._names[index][name]

    def load(self, index: int, name: str) -> torch.Tensor:
        """Read a tensor of a member by its name in the result; do not change it.

        Raises:
            CheckpointError: naming the parent, if it cannot be read or holds NaN or Inf.
        """
        who, model = self.members[index]
        try:
            return model.load(self._names[index][name])
        except CheckpointError as error:
            raise CheckpointError(f"{_who(who, self, index)}: {error}") from error

    def near(self, device: torch.device, index: int, name: str) -> torch.Tensor:
        """Return a tensor as `load`, or the copy of it that stays on a device.

        Raises:
            CheckpointError: as `load`.
        """
        who, model = self.members[index]
        try:
            return self.copies.near(device, model, self._names[index][name])
        except CheckpointError as error:
            raise CheckpointError(f"{_who(who, self, index)}: {error}") from error

    def home(self, index: int, name: str) -> torch.device | None:
        """Return the device that a copy of a tensor stays on, if there is one."""
        return self.copies.home(self.model(index), self._names[index][name])

    def dtype(self, name: str) -> torch.dtype:
        """Return a type by the name that recipes use."""
        return TORCH_DTYPES[name]

    @property
    def n_layers(self) -> int:
        """How many layers the models have."""
        return self.architecture.n_layers

    @property
    def architecture(self) -> Architecture:
        """The donor's."""
        return self.model(self.donor).architecture

    @property
    def summary(self) -> ArchitectureSummary:
        """What a search space needs to know of these models, as plain data."""
        return self.architecture.summary


def _who(name: str, family: Family, index: int) -> str:
    return "base" if index in (-1, family.n_parents) and family.donor == -1 else f"parent {name!r}"


def config_differences(config: Any, reference: Any) -> list[str]:
    """One sentence for each setting that changes what the weights compute and is not the same in both."""
    mine, other = _flat(config.to_dict()), _flat(reference.to_dict())
    return [
        f"{key} is {mine.get(key)!r} instead of {other.get(key)!r}"
        for key in sorted(mine.keys() | other.keys())
        if mine.get(key) != other.get(key) and _MATTERS.search(key) and not _HARMLESS.search(key)
    ]


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        elif value is not None:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _fit(members: Sequence[tuple[str, OpenModel]], donor_index: int) -> tuple[Mapping[str, str], ...]:
    """Return for each member its own name of each of the donor's tensors.

    Raises:
        CheckpointError: with all mismatches of all members.
    """
    donor_name, donor = members[donor_index]
    problems: list[str] = []
    names = []
    for name, model in members:
        own: dict[str, str] = {}
        mismatches: list[str] = []
        try:
            if model is donor:
                own = {each: each for each in donor.naming.targets}
            else:
                own, mismatches = _mismatches(model, donor)
        except CheckpointError as error:
            mismatches = [str(error)]
        names.append(own)
        problems.extend(f"{name} ({model.label}): {mismatch}" for mismatch in mismatches)
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise CheckpointError(f"the models do not fit {donor_name} ({donor.label}):\n{lines}")
    return tuple(names)


def _mismatches(model: OpenModel, donor: OpenModel) -> tuple[dict[str, str], list[str]]:
    problems = config_differences(model.config, donor.config)
    by_target = {target: name for name, target in model.naming.targets.items() if target not in model.naming.parts}
    own, lost, shapes, types = {}, [], [], []
    for name, target in donor.naming.targets.items():
        mine = by_target.get(target) if target not in donor.naming.parts else name
        if mine is None or mine not in model.naming.targets:
            lost.append(name)
            continue
        own[name] = mine
        here, there = model.tensors.infos[mine], donor.tensors.infos[name]
        if here.shape != there.shape:
            shapes.append(f"{name} has shape {_shape(here.shape)} instead of {_shape(there.shape)}")
        if here.dtype.is_floating_point != there.dtype.is_floating_point:
            types.append(f"{name} has type {here.dtype} instead of {there.dtype}")
    extra = [name for name in model.naming.targets if name not in set(own.values())]
    if lost:
        problems.append(f"lacks {len(lost)} tensors: {few(lost, _LIMIT)}")
    if extra:
        problems.append(f"has {len(extra)} more tensors: {few(extra, _LIMIT)}")
    for kind in (shapes, types):
        problems.extend(kind[:_LIMIT])
        if len(kind) > _LIMIT:
            problems.append(f"and {len(kind) - _LIMIT} more tensors of another shape or type")
    return own, problems


def _shape(shape: Iterable[int]) -> str:
    return "×".join(str(size) for size in shape) or "scalar"
