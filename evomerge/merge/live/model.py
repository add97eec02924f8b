"""One model in memory into which candidates are written, in place: no disk, no reload."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from evomerge.errors import CheckpointError
from evomerge.merge.adapters.model import AdapterModel, low_rank_form
from evomerge.merge.counterparts import counterparts
from evomerge.merge.family import Family
from evomerge.merge.files.model import TORCH_DTYPES, OpenModel
from evomerge.merge.files.settings import setting_differences
from evomerge.merge.live.placement import plan_devices, spread
from evomerge.merge.live.settings import Configured, GenerationConfigs, Tokenizers
from evomerge.merge.live.writer import Writer, Written
from evomerge.merge.plan import MergePlan
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Recipe
from evomerge.system.memory import free_bytes

Devices = str | torch.device | Sequence[str | torch.device]
"""One device, or several devices."""


def as_devices(device: Devices) -> tuple[torch.device, ...]:
    """Return devices as a tuple."""
    if isinstance(device, (str, torch.device)):
        return (torch.device(device),)
    return tuple(torch.device(one) for one in device)


class LiveModel:
    """A transformers model whose parameters take the values of one recipe after another.

    A parameter gets the value that the recipe has on disk (in the recipe's own dtype), converted to the live dtype. If
    the two dtypes agree, saving the live model gives the bytes that `merge_to_disk` writes. What is no weight follows
    too: configuration, generation config and tokenizer are those of the folder that `merge_to_disk` writes.

    Attributes:
        model: the model, in eval mode, without gradients; always the same object.
        recipe: the recipe that it holds; None for the weights with which it was opened, and after a write that failed.
        rounded: the dtype, beyond its own, to which the recipe's values were rounded on the way; None: none.
        devices: the devices of its parameters; if there are several, each of its layers is on one of them.
        device: the first device, to which its input goes.
    """

    def __init__(
        self,
        source: ModelSource | Recipe | OpenModel,
        *,
        dtype: str | None = None,
        device: Devices = "cpu",
        sources: Sources | None = None,
    ) -> None:
        """Load a model.

        Args:
            source: what lends the configuration, the first weights and the tokenizer: the base, or the first parent; or
                one that `sources` opened.
            dtype: the type in which it computes, one of `evomerge.recipe.DTYPES`; None: the source's own.
            device: for example "cpu" or "cuda:0"; or several, over which it is spread by their free memory.
            sources: opened models to share.

        Raises:
            CheckpointError: if the source cannot be opened or holds NaN or Inf, or does not fit into several devices.
            RecipeError: if the source is a recipe that cannot be built.
        """
        self.sources = sources if sources is not None else Sources()
        self.devices = as_devices(device)
        self.device = self.devices[0]
        self.recipe: Recipe | None = None
        self.rounded: str | None = None
        self._opened = source if isinstance(source, OpenModel) else self.sources.open(source)
        self.model = _load(self._opened, None if dtype is None else TORCH_DTYPES[dtype], self.devices)
        self._configured = Configured(self.model, self._opened)
        self._lender = self._opened
        self._tokenizers, self._generation = Tokenizers(), GenerationConfigs()
        self.model.generation_config = self._generation.of(self._opened)
        self._fitting: weakref.WeakSet[Family] = weakref.WeakSet()

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the present recipe's result; before the first write, the source's."""
        return self._tokenizers.of(self._lender)

    def fits(self, family: Family) -> bool:
        """Return whether merges of these models have the tensors of this one."""
        return not self._misfits(family)

    def write(self, recipe: Recipe, *, rounded: str | None = None) -> None:
        """Give the model's parameters the values of a recipe.

        All that can be checked without reading weights is checked before the first parameter changes. After a later
        error (NaN in a parent, a result that is not finite) the model holds a mixture, which the next write repairs.

        Args:
            recipe: the recipe.
            rounded: a further dtype to which its values are rounded, as they are in a parent of a recipe of that dtype.

        Raises:
            RecipeError: if the recipe is wrong, or its result is not finite.
            CheckpointError: if its models cannot be read or do not fit together, or do not fit the live model.
        """
        self.follow(self.sources.plan(recipe), rounded=rounded)

    def follow(self, plan: MergePlan, *, rounded: str | None = None) -> None:
        """Do as `write`, with a plan that `sources` made from the recipe.

        Raises:
            RecipeError, CheckpointError: as `write`.
        """
        self._check_fits(plan.family)
        lender = self.sources.tokenizer_of(plan.recipe)
        generation = self._generation.of(self.sources.generation_of(plan.recipe))
        self.recipe = None
        self._configured.take(plan.family.model(plan.family.donor))
        self.model.generation_config = generation
        self._writer.write(plan, None if rounded is None else TORCH_DTYPES[rounded])
        self.recipe, self.rounded = plan.recipe, rounded
        self._lender = lender

    @property
    def written(self) -> Written:
        """What the last write had to do."""
        return self._writer.written

    def keep(self, opened: OpenModel) -> None:
        """Let a parent's tensors stay on the devices of the parameters into which they are merged.

        Of an adapter they are its base's; its own factors, which are small, are copied for each candidate.

        Raises:
            RuntimeError: torch's, if there is no room for them.
        """
        naming, places = self._opened.naming, self._opened.architecture.places
        for own, name in counterparts(opened, self._opened).names.items():
            model, name, _ = low_rank_form(opened, name)
            info, place = model.tensors.infos[name], self._writer.place_of(naming, own)
            if isinstance(model, AdapterModel):
                continue
            if place is not None and info.dtype.is_floating_point and not places[naming.targets[own]].copied:
                self.sources.copies.reserve(model, name, info.shape, info.dtype, place)

    @cached_property
    def _writer(self) -> Writer:
        """The writer into the parameters and saved buffers; tied names share their storage."""
        return Writer(self.model.state_dict(keep_vars=True))

    def _check_fits(self, family: Family) -> None:
        problems = self._misfits(family)
        if problems:
            label = family.model(family.donor).label
            raise CheckpointError(f"{label} does not fit the live model of {self._opened.label}: {'; '.join(problems)}")

    def _misfits(self, family: Family) -> list[str]:
        if family in self._fitting:
            return []
        donor = family.model(family.donor)
        problems = [] if donor is self._opened else [*setting_differences(donor, self._opened).values()]
        if donor.architecture.canonical != self._opened.architecture.canonical:
            problems.append("its tensors have other names or ties")
        elif donor.architecture.shapes != self._opened.architecture.shapes:
            problems.append("its tensors have other shapes")
        if not problems:
            self._fitting.add(family)
        return problems


def _load(opened: OpenModel, dtype: torch.dtype | None, devices: Sequence[torch.device]) -> Any:
    """Build the model with its own weights, through transformers, so that its buffers are what they should be."""
    wanted = dtype if dtype is not None else opened.dtype
    state = {
        name: _stored(opened, name, wanted)
        for target, name in sorted((target, name) for name, target in opened.naming.targets.items())
    }
    config = copy.deepcopy(opened.config)
    config.name_or_path = str(opened.folder)
    model = type(opened.architecture.model).from_pretrained(None, config=config, state_dict=state, dtype=wanted)
    if len(devices) == 1:
        model.to(devices[0])
    else:
        free = {device: free_bytes(device) for device in devices}
        spread(model, plan_devices(opened.architecture, dtype or opened.dtype, free)[0])
    files = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
    for parameter in model.state_dict(keep_vars=True).values():
        # A parameter that is still the memory of the mapped file must not be written into.
        if parameter.untyped_storage().data_ptr() in files:
            parameter.data = parameter.data.clone()
    return model.eval().requires_grad_(False)


def _stored(opened: OpenModel, name: str, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor; one that is computed wider than results are (an adapter's) in the type of the parameters."""
    tensor = opened.load(name)
    return tensor if opened.tensors.infos[name].result is None else tensor.to(dtype)
