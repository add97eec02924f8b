"""Opened parents that fit together: all mismatches are found at once, from headers and configurations only."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import torch

from evomerge.errors import CheckpointError
from evomerge.merge.adapters.low_rank import LowRankChange
from evomerge.merge.adapters.model import has_adapter, low_rank_form
from evomerge.merge.cache import ParentCache
from evomerge.merge.counterparts import Counterparts, counterparts, differ_in_rows_alone
from evomerge.merge.files.architecture import Architecture, ArchitectureSummary
from evomerge.merge.files.checkpoint import TensorInfo
from evomerge.merge.files.device_copies import DeviceCopies
from evomerge.merge.files.model import TORCH_DTYPES, OpenModel
from evomerge.merge.files.places import Merged
from evomerge.merge.files.stored import release

_ONE_VOCABULARY = (
    "only their vocabularies differ: `tokenizer: {source: union}` gives them one of all their tokens, {source: base} "
    "or {source: NAME} that of one model (docs/models.md)"
)


class Family:
    """Models that were checked to fit together, under the names of a recipe's parents.

    It keeps what does not depend on a recipe's parameters, for the next candidate.

    Attributes:
        members: name and model of each parent in order, then the base if there is one (so that index -1 is the base).
        has_base: whether there is one.
        donor: index of the member that lends names, types, configuration and what is kept: see `find_donor`.
        tensors: every tensor of the result.
        parent_cache: results of passes over the weights, kept within a memory budget.
        copies: copies of the members' tensors that stay on devices other than the CPU.
        warnings: what users should know of the members.
        adapted: whether a member is an adapter on its base.

    Raises:
        CheckpointError: with every mismatch of every member.
    """

    def __init__(
        self,
        parents: Sequence[tuple[str, OpenModel]],
        base: OpenModel | None,
        parent_cache: ParentCache | None = None,
        copies: DeviceCopies | None = None,
        *,
        vision: str | None = None,
    ) -> None:
        self.members = (*parents, ("base", base)) if base is not None else tuple(parents)
        self.n_parents = len(parents)
        self.has_base = base is not None
        self.donor = find_donor(vision, parents, base)
        donor = self.model(self.donor)
        found = _fit(self.members, self.donor)
        self._names = tuple(one.names for one in found)
        lent = frozenset[str]().union(*(one.lent for one in found))
        self.warnings = tuple(dict.fromkeys(text for one in found for text in one.warnings))
        self.tensors = tuple(
            Merged(name, donor.tensors.infos[name], replace(place, kept=True) if name in lent else place)
            for name, target in donor.naming.targets.items()
            for place in (donor.architecture.places[target],)
        )
        self.adapted = any(has_adapter(model) for _, model in self.members)
        self._origins: dict[str, list[tuple[int, str] | None]] = {}
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

    def form(self, index: int, name: str) -> tuple[OpenModel, str, LowRankChange | None]:
        """Return the model and the tensor of which a member's tensor is a low-rank change; see `low_rank_form`."""
        model, own = self.source(index, name)
        return low_rank_form(model, own) if has_adapter(model) else (model, own, None)

    def origin(self, index: int, name: str) -> tuple[OpenModel, str]:
        """Return the model and the tensor from which a member's tensor is read: those below an adapter's change."""
        return self.form(index, name)[:2]

    def identity(self, index: int, name: str) -> Hashable:
        """Return what is the same for members that have a tensor in common."""
        model, own, change = self.form(index, name)
        return (model.serial, own) if change is None else (self.model(index).serial, name)

    def shared(self, indices: Sequence[int], name: str) -> bool:
        """Return whether members have a tensor in common because adapters among them leave it as their base has it."""
        if not self.adapted or len(indices) < 1:
            return False
        if name not in self._origins:
            forms = [self.form(index, name) for index in range(len(self.members))]
            self._origins[name] = [None if change else (model.serial, own) for model, own, change in forms]
        found = {self._origins[name][index] for index in indices}
        return len(found) == 1 and None not in found and any(has_adapter(self.model(index)) for index in indices)

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

    def release(self, index: int, name: str) -> None:
        """Drop the pages of files from which a member's tensor comes; see `evomerge.merge.files.stored`."""
        model, own = self.origin(index, name)
        release(model.tensors, own)

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

    def near_origin(self, device: torch.device, model: OpenModel, name: str) -> torch.Tensor:
        """Return a tensor below adapters, or its copy if that stays on the device.

        Raises:
            CheckpointError: if it cannot be read or holds NaN or Inf.
        """
        return self.copies.near(device, model, name)

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
    return "base" if index in (-1, family.n_parents) and family.has_base else f"parent {name!r}"


def find_donor(vision: str | None, parents: Sequence[tuple[str, OpenModel]], base: OpenModel | None) -> int:
    """Return the index of the member that lends names, types and configuration; -1: the base.

    That is the base, or without a base the first parent. But where some members have more than a language part, as
    vision-language models do, it is one of those, since nobody else can lend the rest.

    Args:
        vision: the name of the member that a recipe names; None: it names none.
        parents: name and model of each parent.
        base: the base, if there is one.

    Raises:
        CheckpointError: if the member that is named has nothing beside its language part.
    """
    first = 0 if base is None else -1
    order = {} if base is None else {"base": (-1, base)}
    order |= {name: (index, model) for index, (name, model) in enumerate(parents)}
    if vision is not None:
        index, model = order[vision]
        if not model.has_other_parts:
            raise CheckpointError(f"vision is {vision!r}, but {model.label} has no vision part that a merge could keep")
        return index
    return next((index for index, model in order.values() if model.has_other_parts), first)


def _fit(members: Sequence[tuple[str, OpenModel]], donor_index: int) -> tuple[Counterparts, ...]:
    """Return the tensors of each member that stand for the donor's.

    Raises:
        CheckpointError: with all mismatches of all members.
    """
    donor_name, donor = members[donor_index]
    problems: list[str] = []
    found = []
    for name, model in members:
        try:
            one = counterparts(model, donor)
        except CheckpointError as error:
            one = Counterparts({}, problems=(str(error),))
        found.append(one)
        problems.extend(f"{name} ({model.label}): {mismatch}" for mismatch in one.problems)
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        only_rows = all(_differ_in_rows_alone(model, donor) for _, model in members)
        way_out = f"\n{_ONE_VOCABULARY}" if only_rows else ""
        raise CheckpointError(f"the models do not fit {donor_name} ({donor.label}):\n{lines}{way_out}")
    return tuple(found)


def _differ_in_rows_alone(model: OpenModel, donor: OpenModel) -> bool:
    try:
        return differ_in_rows_alone(model, donor)
    except CheckpointError:
        return False
