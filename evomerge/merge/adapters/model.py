"""A LoRA adapter on its base as an opened model, whose tensors are computed in fp32 when somebody reads them."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from evomerge.errors import CheckpointError
from evomerge.merge.adapters.changes import Change, Product
from evomerge.merge.adapters.config import AdapterConfig, read_config
from evomerge.merge.adapters.low_rank import LowRankChange, Summand, write_sum
from evomerge.merge.adapters.mapping import find_changes
from evomerge.merge.adapters.weights import AdapterFile, sort_names
from evomerge.merge.files.belongings import GENERATION, has_tokenizer
from evomerge.merge.files.checkpoint import TensorInfo, TensorSource
from evomerge.merge.files.locate import ADAPTER
from evomerge.merge.files.model import OpenModel
from evomerge.merge.kernels.engine import engine_for
from evomerge.recipe import ModelSource


class LayeredTensors(ABC):
    """Tensors of which some are those of another opened model, as they are or with a low-rank change."""

    @property
    @abstractmethod
    def adapted(self) -> bool:
        """Whether the model is an adapter on its base, or a view of one."""

    @abstractmethod
    def below(self, name: str) -> tuple[OpenModel, str, LowRankChange | None] | None:
        """Return the model and tensor of which one is a low-rank change (None: it is the same); None: of none."""


class AdapterTensors(LayeredTensors):
    """The tensors of a base with an adapter on top of it.

    What it does not change is the base's own memory. What it changes is in fp32, so that nothing is rounded before it
    is merged; a result has the base's type.
    """

    def __init__(self, base: OpenModel, config: AdapterConfig, file: AdapterFile) -> None:
        """Find what is changed; no weights are read.

        Raises:
            CheckpointError: with everything that does not fit.
        """
        self.base, self.config, self.file = base, config, file
        found = find_changes(config, sort_names(file.infos), file.infos, base)
        self.changes: Mapping[str, Change] = found.of
        self.n_rows = found.n_rows
        self.mapped = False
        self._gains: dict[str, torch.Tensor] = {}
        infos = dict(base.tensors.infos)
        for name, change in self.changes.items():
            shape = file.infos[change.whole[0]].shape if change.whole else infos[name].shape
            infos[name] = TensorInfo(shape, torch.float32, infos[name].result_dtype)
        for name, copies in base.naming.copies.items():
            for one in copies if name in self.changes else ():
                del infos[one]  # a tied tensor stands in the files once more
        self.infos: Mapping[str, TensorInfo] = MappingProxyType(infos)

    @property
    def adapted(self) -> bool:
        """True."""
        return True

    @property
    def n_bytes(self) -> int:
        """The size of what the adapter brings along."""
        return self.file.n_bytes

    @property
    def storage(self) -> str:
        """What lies on the base, in words."""
        products = [change.product for change in self.changes.values() if change.product is not None]
        ranks = sorted({self._rank(one) for one in products})
        scales = sorted({one.scale for one in products})
        kind = "DoRA" if self.config.dora else "rsLoRA" if self.config.rs else "LoRA"
        ends = sorted({name.removesuffix(".weight").rpartition(".")[2] for name in self.changes})
        return (
            f"{kind} on {self.base.label}: rank {_range(ranks)}, scale {_range(scales)}, {len(self.changes)} of "
            f"{len(self.infos)} tensors ({', '.join(ends)}), {self.n_bytes / 2**20:.1f} MiB"
        )

    def _rank(self, product: Product) -> int:
        return self.file.infos[str(product.names.a)].shape[0] // max(1, product.experts)

    def load(self, name: str) -> torch.Tensor:
        """Return a tensor: what is changed in fp32, the rest as the base holds it.

        Raises:
            CheckpointError: if it cannot be read, or a tensor of the adapter holds NaN or Inf.
        """
        change = self.changes.get(name)
        if change is None:
            return self.base.load(name)
        if change.product is None:
            return self._before(name, change).float().contiguous()
        origin = self._before(name, change).contiguous()
        out = torch.empty(origin.shape, dtype=torch.float32)
        write_sum(engine_for(out.device), origin, [Summand(1.0, self._low_rank(name, change.product))], [], out)
        return out

    def reads(self, name: str) -> list[tuple[TensorSource | AdapterFile, str]]:
        """See `evomerge.merge.files.stored`; the factors, which are small, stay."""
        change = self.changes.get(name)
        if change is not None and change.whole:
            return [(self.file, one) for one in change.whole]
        return [(self.base.tensors, name)]

    def below(self, name: str) -> tuple[OpenModel, str, LowRankChange | None] | None:
        """See `LayeredTensors`."""
        change = self.changes.get(name)
        if change is None:
            return self.base, name, None
        if change.product is None or change.whole or change.rows is not None:
            return None
        return self.base, name, self._low_rank(name, change.product)

    def _before(self, name: str, change: Change) -> torch.Tensor:
        """Return a tensor without its low-rank change."""
        if change.whole:
            tensor, *others = (self.file.load(one) for one in change.whole)
            for one, other in zip(change.whole[1:], others, strict=True):
                if not torch.equal(tensor, other):
                    raise CheckpointError(
                        f"{self.file.path} holds different values for {change.whole[0]} and {one}, which the base "
                        "ties, so no model with tied tensors equals it; untie the base (tie_word_embeddings: false)"
                    )
            tensor = tensor.view(self.infos[name].shape)
        else:
            tensor = self.base.load(name)
        if change.rows is not None:
            tensor = tensor.float().clone()
            tensor[list(change.rows[1])] = self.file.load(change.rows[0]).float()
        if change.added is not None:
            tensor = tensor.float() + self.file.load(change.added[0]).float() * change.added[1]
        return tensor

    def _low_rank(self, name: str, product: Product) -> LowRankChange:
        a, b = self.file.load(str(product.names.a)), self.file.load(str(product.names.b))
        if product.experts:
            # A: (experts · r, inputs), one expert after the other; B: (outputs, r · experts), the experts side by side.
            a = a.reshape(product.experts, -1, a.shape[-1])
            b = b.reshape(b.shape[0], -1, product.experts).permute(2, 0, 1)
        else:
            a, b = a.reshape(1, a.shape[0], -1), b.reshape(1, b.shape[0], -1)
        left, right = (a.mT, b.mT) if product.transposed else (b, a)
        if product.part is not None:
            at = product.part
            rows, columns = self.infos[name].shape[:: -1 if at.transposed else 1]
            left = left[at.expert : at.expert + 1, at.row : at.row + rows]
            right = right[at.expert : at.expert + 1, :, at.column : at.column + columns]
            left, right = (right.mT, left.mT) if at.transposed else (left, right)
        made = LowRankChange(left, right, product.scale)
        if product.names.magnitude is None:
            return made
        if name not in self._gains:
            self._gains[name] = self._gain(name, made, self.file.load(product.names.magnitude), product.transposed)
        return replace(made, gain=self._gains[name], by_column=product.transposed)

    def _gain(self, name: str, change: LowRankChange, magnitude: torch.Tensor, by_column: bool) -> torch.Tensor:
        """Return DoRA's m / ‖θ0 + s·B·A‖, the lengths taken over the inputs of each output."""
        origin = self._before(name, self.changes[name]).contiguous()
        whole = torch.empty((change.left.shape[1], change.right.shape[2]), dtype=torch.float32)
        write_sum(engine_for(whole.device), origin, [Summand(1.0, change)], [], whole)
        # numpy adds up in one order, whatever the number of threads.
        length = np.sqrt(np.square(whole.numpy(), dtype=np.float64).sum(axis=0 if by_column else 1))
        return torch.from_numpy((magnitude.double().reshape(-1).numpy() / length).astype(np.float32))


class AdapterModel(OpenModel):
    """An adapter on its base; see `OpenModel`."""

    tensors: AdapterTensors

    def load(self, name: str) -> torch.Tensor:
        """Return a tensor, as `OpenModel.load`; the base checks what is its own."""
        return super().load(name) if name in self.tensors.changes else self.tensors.base.load(name)


def open_adapter(source: ModelSource, base: OpenModel, folder: Path) -> AdapterModel:
    """Open an adapter on its base: configuration and headers are read, no weights.

    Args:
        source: what names both.
        base: the opened model below it.
        folder: the adapter's folder.

    Raises:
        CheckpointError: with everything that does not fit, or why the adapter is no change of weights.
    """
    if not (folder / ADAPTER).is_file():
        raise CheckpointError(f"{folder} has no {ADAPTER}, so it is no PEFT adapter")
    config = read_config(folder)
    tensors = AdapterTensors(base, config, AdapterFile(folder, allow_pickle=source.allow_pickle))
    changed = tensors.n_rows is not None
    return AdapterModel(
        label=source.label,
        config=_with_rows(base.config, tensors.n_rows) if changed else base.config,
        tensors=tensors,
        folder=base.folder,
        tokenizer_folder=folder if has_tokenizer(folder) else base.tokenizer_folder,
        generation_folder=folder if (folder / GENERATION).is_file() else base.generation_folder,
        trust_remote_code=base.trust_remote_code,
        architecture=None if changed else base.architecture,
    )


def _range(numbers: Sequence[float]) -> str:
    ends = dict.fromkeys((numbers[0], numbers[-1])) if numbers else ()
    return " to ".join(f"{number:g}" for number in ends) or "–"


def bytes_read(models: Sequence[OpenModel]) -> int:
    """Return the size of the tensors of several models; a base counts once, however many adapters lie on it."""
    adapters = {id(one): one for one in models if isinstance(one, AdapterModel)}
    others = {id(one): one for one in models if not isinstance(one, AdapterModel)}
    others |= {id(one.tensors.base): one.tensors.base for one in adapters.values()}
    whole = sum(one.tensors.infos[name].n_bytes for one in others.values() for name in one.naming.targets)
    return whole + sum(one.tensors.n_bytes for one in adapters.values())


def _with_rows(config: Any, n_rows: int | None) -> Any:
    made = copy.deepcopy(config)
    made.get_text_config(decoder=True).vocab_size = n_rows
    return made


def has_adapter(model: OpenModel) -> bool:
    """Return whether a model is an adapter on its base, or a view of one."""
    return isinstance(model.tensors, LayeredTensors) and model.tensors.adapted


def low_rank_form(model: OpenModel, name: str) -> tuple[OpenModel, str, LowRankChange | None]:
    """Return the model and tensor of which a tensor is a low-rank change, through views of models; perhaps itself."""
    found = model.tensors.below(name) if isinstance(model.tensors, LayeredTensors) else None
    if found is None:
        return model, name, None
    root, inner, change = found
    return found if change is not None else low_rank_form(root, inner)
