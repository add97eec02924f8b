"""Writes candidates into the parameters of a live model: in place, and only what changed."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from evomerge.merge.apply import merge_tensor, refuse, start_tensor
from evomerge.merge.files.naming import Naming
from evomerge.merge.files.probe import find_places
from evomerge.merge.methods.base import BASE
from evomerge.merge.plan import MergePlan, TensorTask


@dataclass(frozen=True)
class Written:
    """What a write had to do.

    Attributes:
        tensors: how many tensors got new values.
        of: how many tensors there are.
        n_bytes: how many bytes this must have moved at least: each input is read once, each result written once.
    """

    tensors: int = 0
    of: int = 0
    n_bytes: int = 0

    def __add__(self, other: Written) -> Written:
        return Written(self.tensors + other.tensors, self.of + other.of, self.n_bytes + other.n_bytes)

    @property
    def nothing(self) -> Written:
        """A write of the same tensors that changed none of them."""
        return Written(of=self.of)


class Writer:
    """Gives parameters the values of one plan after another, without copies of the model or of a tensor.

    It remembers from what each tensor was last made: where the next candidate has the same, nothing is written. After a
    write that failed or was interrupted, it has forgotten the tensors with which that had begun.

    Attributes:
        written: what the last write did, up to the error if there was one.
    """

    def __init__(self, parameters: Mapping[str, torch.Tensor]) -> None:
        """Take parameters and buffers by name."""
        self.written = Written()
        self._parameters = parameters
        self._holds: dict[str, dict[str, Hashable]] = {}
        self._views: dict[tuple[str, ...], dict[str, torch.Tensor] | None] = {}

    def forget(self) -> None:
        """Forget what the parameters hold, because something else changed them; the next write writes everything."""
        self._holds.clear()

    @torch.no_grad()
    def write(self, plan: MergePlan, rounded: torch.dtype | None = None) -> None:
        """Write the tensors that changed, with the values of `evomerge.merge.apply.write_tensor`.

        Raises:
            CheckpointError: if a parent's tensor cannot be read or holds NaN or Inf.
            RecipeError: if a result is not finite.
        """
        self.written = Written(of=len(plan.tasks))
        naming = plan.family.model(plan.family.donor).naming
        waiting: list[tuple[_Change, torch.Tensor]] = []
        for change in self._changes(plan, naming, rounded):
            change.holds.pop(change.task.name, None)
            self._count(plan, change.task, change.out)
            bad = start_tensor(plan, change.task, change.out, rounded=rounded)
            if isinstance(bad, torch.Tensor) and bad.device.type != "cpu":
                waiting.append((change, bad))  # checked later, so as not to wait for a GPU at every tensor
            elif bad:
                refuse(plan, change.task, change.out, rounded)
            else:
                change.holds[change.task.name] = change.signature
        for (change, _), bad in zip(waiting, _values([flag for _, flag in waiting]), strict=True):
            if bad:
                refuse(plan, change.task, change.out, rounded)
            change.holds[change.task.name] = change.signature

    def place_of(self, naming: Naming, name: str) -> torch.device | None:
        """Return the device where the values of a tensor are computed; None: on the CPU, where they are converted."""
        target = naming.targets[name]
        if target not in naming.parts:
            return self._parameters[target].device
        views = self._views_of(naming, target)
        return None if views is None else views[name].device

    def _changes(self, plan: MergePlan, naming: Naming, rounded: torch.dtype | None) -> Iterator[_Change]:
        stacked: dict[str, list[tuple[TensorTask, Hashable]]] = {}
        for task in plan.tasks:
            target = naming.targets[task.name]
            parts = naming.parts.get(target, (task.name,))
            holds = self._holds.setdefault(target, {})
            if not holds.keys() <= set(parts):  # it was filled from files with other names
                holds.clear()
            signature = _signature(plan, task, rounded)
            if holds.get(task.name) == signature:
                continue
            if target not in naming.parts:
                yield _Change(task, self._parameters[target], signature, holds)
            else:
                stacked.setdefault(target, []).append((task, signature))
        for target, changed in stacked.items():
            holds, views = self._holds[target], self._views_of(naming, target)
            if views is None:
                self._convert(plan, naming, target, rounded)
                holds.update({task.name: signature for task, signature in changed})
            else:
                for task, signature in changed:
                    yield _Change(task, views[task.name], signature, holds)

    def _views_of(self, naming: Naming, target: str) -> dict[str, torch.Tensor] | None:
        key = (target, *naming.parts[target])
        if key not in self._views:
            self._views[key] = find_views(naming, target, self._parameters)
        return self._views[key]

    def _convert(self, plan: MergePlan, naming: Naming, target: str, rounded: torch.dtype | None) -> None:
        """Compute all parts of a parameter into new memory, and let transformers put them together."""
        tasks = {task.name: task for task in plan.tasks}
        self._holds[target].clear()
        made = {}
        for name in naming.parts[target]:
            made[name] = merge_tensor(plan, tasks[name])
            self._count(plan, tasks[name], made[name])
            if rounded is not None and made[name].is_floating_point() and not tasks[name].tensor.place.copied:
                part = torch.empty(made[name].shape, dtype=rounded)
                if start_tensor(plan, tasks[name], part):
                    refuse(plan, tasks[name], part)
                made[name] = part
        for name, tensor in naming.convert(target, made).items():
            self._parameters[name].copy_(tensor)

    def _count(self, plan: MergePlan, task: TensorTask, out: torch.Tensor) -> None:
        inputs = task.inputs if task.copy_of is None else (task.copy_of,)
        if task.copy_of is None and task.reads_base:
            inputs = (*inputs, BASE)
        read = sum(plan.family.info(index, task.name).n_bytes for index in inputs)
        self.written += Written(1, 0, read + out.numel() * out.element_size())


@dataclass(frozen=True)
class _Change:
    """One tensor to write: the task, the memory, what it will hold, and where that is noted."""

    task: TensorTask
    out: torch.Tensor
    signature: Hashable
    holds: dict[str, Hashable]


def _values(flags: Sequence[torch.Tensor]) -> list[bool]:
    """Return the values of flags that may lie on several devices, waiting for each device once."""
    values = [False] * len(flags)
    for device in {flag.device for flag in flags}:
        places = [place for place, flag in enumerate(flags) if flag.device == device]
        for place, value in zip(places, torch.stack([flags[place] for place in places]).tolist(), strict=True):
            values[place] = value
    return values


def _signature(plan: MergePlan, task: TensorTask, rounded: torch.dtype | None) -> Hashable:
    """Return a signature of all that a tensor's bytes depend on: equal signatures mean equal bytes."""
    family = plan.family
    if task.copy_of is not None:
        return task.dtype, rounded, family.identity(task.copy_of, task.name)
    assert task.values is not None  # a task is either copied or merged
    return (
        task.dtype,
        rounded,
        task.method.spec.name,
        family.model(BASE).serial if task.reads_base else None,
        tuple(family.model(index).serial for index in task.inputs),
        tuple(sorted(task.values.items())),
        task.seeds,
    )


def find_views(naming: Naming, target: str, parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """Return the places in the parameters of tensors that are converted together.

    Returns:
        For each name in `naming.parts[target]` a view of a parameter. None if its entries' places are not known
        (`find_places`), or do not lie in fixed strides.
    """
    found = find_places(naming, target)
    if found is None:
        return None
    views = {}
    for name, here in found.of.items():
        shape, first = here.shape, int(here.reshape(-1)[0])
        owner = next(
            ((begin, parameters[one]) for one, (begin, end) in found.parameters.items() if begin <= first < end), None
        )
        strides = [
            int(here.select(axis, 1).reshape(-1)[0]) - first if size > 1 else 1 for axis, size in enumerate(shape)
        ]
        expected = torch.full((), first, dtype=torch.int32)
        for size, stride in zip(shape, strides, strict=True):
            expected = expected[..., None] + torch.arange(size, dtype=torch.int32) * stride
        if owner is None or int(expected.max()) >= owner[0] + owner[1].numel():
            return None  # a tensor of the file that fills several parameters
        if not owner[1].is_contiguous() or min(strides, default=1) < 1 or not expected.equal(here):
            return None
        begin, parameter = owner
        views[name] = parameter.detach().view(-1).as_strided(shape, strides, parameter.storage_offset() + first - begin)
    return views
