"""What belongs to a live model besides its weights: tokenizer, generation config, configuration.

One live model holds one recipe after another. Each brings the settings that its own folder would have, since they
decide how it is scored: where answers end, how long a prompt may be, what the next token may be.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evomerge.errors import CheckpointError
from evomerge.merge.files.generation import read_generation_config
from evomerge.merge.files.model import OpenModel
from evomerge.system.processor import load_processor

log = logging.getLogger(__name__)

_OF_LOADING = ("dtype", "torch_dtype", "transformers_version", "architectures")
"""Keys of a configuration that say how a live model was loaded, besides those that begin with an underscore."""


class Tokenizers:
    """Tokenizers of opened models; each is loaded once, so that it is always the same object."""

    def __init__(self) -> None:
        self._loaded: dict[Path, Any] = {}

    def of(self, lender: OpenModel) -> Any:
        """Return a model's tokenizer.

        Raises:
            CheckpointError: if transformers cannot load it.
        """
        folder = lender.tokenizer_folder
        if folder not in self._loaded:
            self._loaded[folder] = self._load(folder, lender.trust_remote_code)
        return self._loaded[folder]

    def _load(self, folder: Path, trust_remote_code: bool) -> Any:
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        except Exception as error:  # transformers raises almost anything on missing or broken files
            raise CheckpointError(f"{folder} has no tokenizer that transformers can load: {error}") from error


class Processors(Tokenizers):
    """Processors of opened models, which make inputs of texts and images, and have a tokenizer of their own."""

    def _load(self, folder: Path, trust_remote_code: bool) -> Any:
        return load_processor(folder, trust_remote_code=trust_remote_code)


class GenerationConfigs:
    """Generation configs of opened models; each is read once."""

    def __init__(self) -> None:
        self._read: dict[Path, Any] = {}

    def of(self, lender: OpenModel) -> Any:
        """Return a copy of a model's generation config.

        Raises:
            CheckpointError: if transformers cannot read it.
        """
        folder = lender.generation_folder
        if folder not in self._read:
            self._read[folder] = read_generation_config(folder)
        return copy.deepcopy(self._read[folder])


@dataclass(frozen=True)
class _Change:
    """An attribute of a module that a configuration decides: plain data, or a buffer that is in no file."""

    module: str
    key: str
    value: Any


class Configured:
    """A live model with the configuration of whichever recipe it holds.

    The models have the same architecture, and all settings that change what weights compute are equal; others, such as
    the context length and the ids of tokens, are the recipe's own. Where a class keeps something of them in its modules
    (a table of positions, the largest length), that is changed too.

    Args:
        model: the live model, built with the configuration of `opened`.
        opened: the model that it was built from.
    """

    def __init__(self, model: Any, opened: OpenModel) -> None:
        self._model = model
        self._now = opened
        self._changes: dict[tuple[int, int], tuple[_Change, ...]] = {}

    def take(self, donor: OpenModel) -> None:
        """Give the model the configuration of a donor.

        Raises:
            CheckpointError: if the donor's class keeps a table that cannot be made anew.
        """
        if donor.config is self._now.config:
            return
        # By the donor's serial: another model may get the id of one that is gone.
        key = (self._now.serial, donor.serial)
        if key not in self._changes:
            self._changes[key] = tuple(_changes(self._now, donor))
        modules = dict(self._model.named_modules())
        for change in self._changes[key]:
            _apply(modules[change.module], change)
        _take_config(self._model.config, copy.deepcopy(donor.config))
        self._now = donor


def _take_config(config: Any, donor: Any) -> None:
    """Change a configuration in place, since the modules of a model hold it."""
    mine, theirs = vars(config), vars(donor)
    for key in [key for key in mine if key not in theirs and _is_setting(key)]:
        delattr(config, key)
    for key, value in theirs.items():
        if not _is_setting(key):
            continue
        if _is_config(value) and type(value) is type(mine.get(key)):
            _take_config(mine[key], value)
        elif key not in mine or mine[key] != value:
            setattr(config, key, value)


def _is_setting(key: str) -> bool:
    return not key.startswith("_") and key not in _OF_LOADING


def _is_config(value: Any) -> bool:
    return hasattr(value, "to_dict") and hasattr(value, "model_type")


def _changes(before: OpenModel, after: OpenModel) -> Iterator[_Change]:
    """Yield what differs in the modules that a class builds for two configurations, besides the configurations.

    Raises:
        CheckpointError: if a buffer that is in no file cannot be made anew.
    """
    if after.config.to_dict() == before.config.to_dict():
        return
    model = after.architecture.model
    theirs = dict(model.named_modules())
    for name, module in before.architecture.model.named_modules():
        other = theirs[name]
        mine, wanted = _plain(module), _plain(other)
        changed = [key for key, value in wanted.items() if key not in mine or mine[key] != value]
        yield from (_Change(name, key, wanted[key]) for key in changed)
        sizes, new = _table_sizes(module), _table_sizes(other)
        if not new or not (changed or sizes != new):
            continue
        for key, table in _tables(model, other, list(new)).items():
            if table is not None:
                yield _Change(name, key, table)
            elif sizes.get(key) != new[key]:
                raise CheckpointError(
                    f"{after.label} has another context length than {before.label}, and its class keeps a table "
                    f"({name}.{key}) that cannot be made anew; give both the same context length in config.json"
                )


def _table_sizes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a module's own buffers that are in no file."""
    buffers = {key: module._buffers.get(key) for key in sorted(module._non_persistent_buffers_set)}
    return {key: tuple(buffer.shape) for key, buffer in buffers.items() if buffer is not None}


def _tables(model: Any, module: nn.Module, names: list[str]) -> dict[str, torch.Tensor | None]:
    """Return the buffers of a module that are in no file, computed as transformers does when it loads a model.

    Args:
        model: a model on the meta device, one of whose modules it is.
        module: the module.
        names: names of the buffers.

    Returns:
        Name to values; None where the class does not say how to compute them.
    """
    try:
        found = [_initialised(model, module, names, fill) for fill in (0, 1)]
    except Exception as error:  # a class of its own may not be made for this
        log.debug("the buffers of %s cannot be made anew: %s", type(module).__name__, error)
        return dict.fromkeys(names)
    # What still depends on the fill was not computed.
    return {key: found[0][key] if torch.equal(found[0][key], found[1][key]) else None for key in names}


def _initialised(model: Any, module: nn.Module, names: list[str], fill: int) -> dict[str, torch.Tensor]:
    made = copy.copy(module)
    made._buffers = dict(module._buffers)
    for key in names:
        made._buffers[key] = torch.full_like(module._buffers[key], fill, device="cpu")  # type: ignore[arg-type]
    with torch.no_grad():
        model._init_weights(made)
    return {key: made._buffers[key] for key in names}  # type: ignore[misc]


def _plain(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that are plain data, without those of torch and transformers."""
    kinds = (bool, int, float, str, tuple, type(None))
    return {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, kinds) and not key.startswith("_") and key != "training"
    }


def _apply(module: nn.Module, change: _Change) -> None:
    if isinstance(change.value, torch.Tensor):
        old = module._buffers.get(change.key)
        device = None if old is None else old.device
        module._buffers[change.key] = change.value.to(device)
    else:
        setattr(module, change.key, change.value)
