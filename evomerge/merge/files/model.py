"""An opened checkpoint: its configuration, its tensors one at a time, and how they fill its class."""

from __future__ import annotations

import copy
import itertools
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from evomerge.errors import CheckpointError
from evomerge.merge.files.architecture import Architecture
from evomerge.merge.files.checkpoint import TensorSource
from evomerge.merge.files.formats import open_tensors
from evomerge.merge.files.formats.quantised import forget_quantisation
from evomerge.merge.files.hub_headers import ArrivingTensors
from evomerge.merge.files.language import has_other_parts
from evomerge.merge.files.locate import locate_headers
from evomerge.merge.files.naming import Naming, find_naming
from evomerge.merge.kernels.engine import engine_for
from evomerge.recipe import ModelSource

TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The types that recipes name."""


_SERIALS = itertools.count()


class OpenModel:
    """A model whose tensors can be read one at a time: a checkpoint, or a recipe that is computed as it is read.

    Attributes:
        label: its name in messages: path, Hub id or recipe.
        config: its transformers configuration.
        tensors: its tensors.
        folder: the checkpoint that lends config.json and custom code.
        tokenizer_folder: the checkpoint that lends the tokenizer.
        generation_folder: the checkpoint that lends the generation config.
        trust_remote_code: whether custom code in `folder` may run.
        serial: its own number, which no other model ever gets, even when this one is gone.
    """

    def __init__(
        self,
        *,
        label: str,
        config: Any,
        tensors: TensorSource,
        folder: Path,
        tokenizer_folder: Path,
        generation_folder: Path,
        trust_remote_code: bool,
        architecture: Architecture | None = None,
        advice: str = "",
    ) -> None:
        """Make an opened model from its parts, which the class describes.

        Args:
            architecture: that of the same configuration, if another model has built it; None: it is built when needed.
            advice: what to do where its tensors are not those that its configuration describes.
        """
        self.label = label
        self.config = config
        self.tensors = tensors
        self.folder = folder
        self.tokenizer_folder = tokenizer_folder
        self.generation_folder = generation_folder
        self.trust_remote_code = trust_remote_code
        self.serial = next(_SERIALS)
        self._checked: set[str] = set()
        self._architecture = architecture
        self._advice = advice

    @cached_property
    def architecture(self) -> Architecture:
        """The roles and layers of its tensors."""
        if self._architecture is not None:
            return self._architecture
        made = Architecture(self.config, trust_remote_code=self.trust_remote_code)
        apart = self._apart(made)
        return Architecture(self.config, trust_remote_code=self.trust_remote_code, apart=apart) if apart else made

    def _apart(self, made: Architecture) -> list[str]:
        """Return tied tensors with values of their own, of a class that ties them whatever its config.json says.

        T5 is one: that its head is not its embedding is known from the files alone, and transformers looks there, too.
        """
        both = [(name, first) for name, first in made.canonical.items()
                if name != first and name in self.tensors.infos and first in self.tensors.infos]  # fmt: skip
        if not both or not _always_ties(self.config):
            return []
        return [name for name, first in both if not torch.equal(self.tensors.load(name), self.tensors.load(first))]

    @cached_property
    def has_other_parts(self) -> bool:
        """Whether something stands beside its language part, as the vision tower of a vision-language model does."""
        return has_other_parts(self.config) and not self.architecture.language.whole

    @cached_property
    def naming(self) -> Naming:
        """How its tensors fill the parameters of its model class.

        Raises:
            CheckpointError: if the files do not hold what config.json describes.
        """
        try:
            return find_naming(self.tensors.infos, self.architecture)
        except CheckpointError as error:
            raise CheckpointError(
                f"{self.label} does not hold what its config.json describes: {error}{self._advice}"
            ) from error

    @property
    def dtype(self) -> torch.dtype:
        """The type of most of its values; of quantised ones, the type that a merge gives them."""
        size: dict[torch.dtype, int] = {}
        for info in self.tensors.infos.values():
            if info.dtype.is_floating_point:
                size[info.result_dtype] = size.get(info.result_dtype, 0) + info.n_bytes
        return max(size, key=lambda dtype: size[dtype], default=torch.float32)

    def load(self, name: str) -> torch.Tensor:
        """Return a tensor; it is checked when it is first read.

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


def _always_ties(config: Any) -> bool:
    """Return whether a configuration class ties embedding and head although it is told not to."""
    said = {**config.to_dict(), "tie_word_embeddings": False}
    return bool(type(config).from_dict(said).tie_word_embeddings)


def open_checkpoint(source: ModelSource) -> OpenModel:
    """Open a checkpoint: its configuration and headers are read, no weights.

    Raises:
        CheckpointError: if it is missing, unreadable or quantised, or its model type is not known.
    """
    from transformers import AutoConfig

    folder, coming = locate_headers(source)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=source.trust_remote_code)
    except Exception as error:  # transformers raises almost anything on a broken config.json
        hint = ""
        if "trust_remote_code" in str(error):
            hint = "; if you trust its code, write {path: …, trust_remote_code: true}"
        raise CheckpointError(f"cannot read {folder / 'config.json'}{hint}: {error}") from error
    tensors: TensorSource
    if coming is None:
        tensors = open_tensors(folder, source, config)
    else:  # a model of the Hub whose weights are not here yet
        stored = copy.deepcopy(config)  # which still says how they are stored
        tensors = ArrivingTensors(coming, lambda folder: open_tensors(folder, source, stored))
    forget_quantisation(config)  # the tensors are numbers, whatever they are stored as
    return OpenModel(
        label=source.label,
        config=config,
        tensors=tensors,
        folder=folder,
        tokenizer_folder=folder,
        generation_folder=folder,
        trust_remote_code=source.trust_remote_code,
    )
