"""Opened parents that fit together: all mismatches are found at once, from headers and configurations only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from evomerge.errors import CheckpointError
from evomerge.merge.cache import ParentCache
from evomerge.merge.files.architecture import Architecture, ArchitectureSummary
from evomerge.merge.files.checkpoint import TensorInfo
from evomerge.merge.files.device_copies import DeviceCopies
from evomerge.merge.files.model import TORCH_DTYPES, OpenModel
from evomerge.merge.files.places import Merged
from evomerge.merge.files.settings import setting_differences
from evomerge.merge.files.weights import few
from evomerge.merge.tokens.numbers import VOCABULARY
from evomerge.merge.tokens.view import token_tensors

_LIMIT = 12

_ONE_VOCABULARY = (
    "only their vocabularies differ: `tokenizer: {source: union}` gives them one of all their tokens, {source: base} "
    "or {source: NAME} that of one model (docs/models.md)"
)


class Family:
    """Models that were checked to fit together, under the names of a recipe's parents.

    It keeps what does not depend on a recipe's parameters, for the next candidate.

    Attributes:
        members: name and model of each parent in order, then the base if there is one (so that index -1 is the base).
        donor: index of the member that lends names, types and configuration: the base, else the first parent.
        tensors: every tensor of the result.
        parent_cache: results of passes over the weights, kept within a memory budget.
        copies: copies of the members' tensors that stay on devices other than the CPU.

    Raises:
        CheckpointError: with every mismatch of every member.
    """

    def __init__(
        self,
        parents: Sequence[tuple[str, OpenModel]],
        base: OpenModel | None,
        parent_cache: ParentCache | None = None,
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
        self.parent_cache = parent_cache if parent_cache is not None else ParentCache()
        self.copies = copies if copies is not None else DeviceCopies()

    def model(self, index: int) -> OpenModel:
        """Return a member by its index."""
        return self.members[index][1]

    def info(self, index: int, name: str) -> TensorInfo:
        """Return the shape and type of a member's tensor, by its name in the result; nothing is read."""
        return self.model(index).tensors.infos[self._names[index][name]]

    def source(self, index: int, name: str) -> tuple[OpenModel, str]:
        """Return a member, and its own name for a tensor of the result."""
        return self.model(index), self._names[index][name]

    def load(self, index: int, name: str) -> torch.Tensor:
        """Return a member's tensor by its name in the result; do not change it.

        Raises:
            CheckpointError: naming the parent, if it cannot be read or holds NaN or Inf.
        """
        who, model = self.members[index]
        try:
            return model.load(self._names[index][name])
        except CheckpointError as error:
            raise CheckpointError(f"{_who(who, self, index)}: {error}") from error

    def near(self, device: torch.device, index: int, name: str) -> torch.Tensor:
        """Return a tensor as `load` does, or its copy if that stays on the device.

        Raises:
            CheckpointError: as `load`.
        """
        who, model = self.members[index]
        try:
            return self.copies.near(device, model, self._names[index][name])
        except CheckpointError as error:
            raise CheckpointError(f"{_who(who, self, index)}: {error}") from error

    def home(self, index: int, name: str) -> torch.device | None:
        """Return the device on which a copy of a tensor stays, or None."""
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
        """The donor's architecture."""
        return self.model(self.donor).architecture

    @property
    def summary(self) -> ArchitectureSummary:
        """The summary of these models that a search space needs, as plain data."""
        return self.architecture.summary


def _who(name: str, family: Family, index: int) -> str:
    return "base" if index in (-1, family.n_parents) and family.donor == -1 else f"parent {name!r}"


def _fit(members: Sequence[tuple[str, OpenModel]], donor_index: int) -> tuple[Mapping[str, str], ...]:
    """Return for each member the donor's names of tensors to its own.

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
        only_rows = all(_differ_in_rows_alone(model, donor) for _, model in members)
        way_out = f"\n{_ONE_VOCABULARY}" if only_rows else ""
        raise CheckpointError(f"the models do not fit {donor_name} ({donor.label}):\n{lines}{way_out}")
    return tuple(names)


def _differ_in_rows_alone(model: OpenModel, donor: OpenModel) -> bool:
    """Return whether two models differ in nothing but the number of rows of embedding and head."""
    try:
        mine, theirs = model.architecture.shapes, donor.architecture.shapes
        canonical = donor.architecture.canonical
        rows = {canonical[donor.naming.targets[name]] for name in token_tensors(donor)}
        token_tensors(model)
        own, _ = _mismatches(model, donor)
        fits = all(
            model.tensors.infos[mine].dtype.is_floating_point == donor.tensors.infos[name].dtype.is_floating_point
            for name, mine in own.items()
        )
        settings = setting_differences(model, donor)
    except CheckpointError:
        return False
    return (
        fits
        and all(key.rpartition(".")[2] == VOCABULARY for key in settings)
        and mine.keys() == theirs.keys()
        and all(mine[name] == theirs[name] or canonical[name] in rows for name in mine)
        and len(own) == len(model.naming.targets) == len(donor.naming.targets)
    )


def _mismatches(model: OpenModel, donor: OpenModel) -> tuple[dict[str, str], list[str]]:
    problems = list(setting_differences(model, donor).values())
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
