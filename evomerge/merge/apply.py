"""Computes one tensor of a plan, straight into the memory where it is needed: fp32 arithmetic, one cast at the end.

The same function serves merges on disk and in memory, so both have the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from evomerge.errors import RecipeError
from evomerge.merge.adapters.low_rank import Summand, write_sum
from evomerge.merge.kernels.engine import KernelEngine, engine_for
from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.base import BASE, Inputs, blocks_of
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.merge.plan import MergePlan, TensorTask, place_of

if TYPE_CHECKING:
    import torch

    from evomerge.merge.family import Family

T = TypeVar("T")

_COPY = Program(weight=(1.0,))


def merge_tensor(plan: MergePlan, task: TensorTask) -> torch.Tensor:
    """Return one tensor of the result, in its final type; it may be a parent's own memory, so do not change it.

    Raises:
        CheckpointError: if a parent's tensor cannot be read or holds NaN or Inf.
        RecipeError: if the result is not finite in its final type.
    """
    if task.copy_of is not None and plan.family.info(task.copy_of, task.name).dtype == task.dtype:
        return plan.family.load(task.copy_of, task.name)
    import torch

    out = torch.empty(task.tensor.info.shape, dtype=task.dtype)
    write_tensor(plan, task, out)
    return out


def write_tensor(plan: MergePlan, task: TensorTask, out: torch.Tensor, *, rounded: torch.dtype | None = None) -> None:
    """Give a tensor the values of a task, in place.

    Args:
        plan: the plan to which the task belongs.
        task: what to compute.
        out: the tensor, of the task's shape and any floating-point type. The values are rounded to the task's type
            first.
        rounded: a further type to which they are rounded, before out's own.

    Raises:
        CheckpointError: if a parent's tensor cannot be read or holds NaN or Inf; `out` is then unchanged.
        RecipeError: if the result is not finite; `out` then holds a part of it.
    """
    bad = start_tensor(plan, task, out, rounded=rounded)
    if bad:  # for a tensor on a GPU, this waits for the result
        refuse(plan, task, out, rounded)


def start_tensor(
    plan: MergePlan, task: TensorTask, out: torch.Tensor, *, rounded: torch.dtype | None = None
) -> int | torch.Tensor:
    """Do as `write_tensor`, but return whether the result is not finite instead of raising; see `refuse`."""
    family, name = plan.family, task.name
    if not task.dtype.is_floating_point or task.tensor.place.copied:
        out.copy_(family.load(cast(int, task.copy_of), name))
        return 0
    if not out.is_contiguous():
        import torch

        whole = torch.empty(out.shape, dtype=out.dtype, device=out.device)
        bad = start_tensor(plan, task, whole, rounded=rounded)
        out.copy_(whole)
        return bad
    roundings = [dtype for dtype in (task.dtype, rounded) if dtype is not None]
    engine = engine_for(out.device)
    if task.copy_of is not None:
        source = family.near(out.device, task.copy_of, name)
        if all(dtype == source.dtype for dtype in (*roundings, out.dtype)):
            out.copy_(source)  # bit for bit, and known to be finite
            return 0
        return engine.run(_COPY, None, [_on(out.device, source)], out, roundings=roundings)
    inputs = _inputs(plan, task, engine, out.device)
    program = None if task.method.program is None else task.method.program(inputs)
    if program is not None:
        low = _low_rank_sum(plan, task, program, out.device)
        if low is not None:
            return write_sum(engine, *low, out, roundings)
        return engine.run(program, inputs.base, list(inputs.parents), out, roundings=roundings)
    if task.method.block is not None:
        flat, bad = out.view(-1), cast("int | torch.Tensor", 0)
        for start, part in blocks_of(inputs):
            made = task.method.block(part, start)
            found = engine.run(_COPY, None, [made], flat[start : start + made.numel()], roundings=roundings)
            bad = found | bad if not isinstance(found, int) else max(found, int(bad))
        return bad
    base = None if inputs.base is None else inputs.base.float()
    inputs = replace(inputs, base=base, parents=[each.float() for each in inputs.parents])
    made = task.method.merge(inputs)
    return engine.run(_COPY, None, [made.contiguous()], out, roundings=roundings)


def program_of(
    plan: MergePlan, task: TensorTask, engine: KernelEngine, device: torch.device
) -> tuple[Program, torch.Tensor | None, list[torch.Tensor]]:
    """Return the program of a task whose method has one, with the base and the parents' tensors that it reads.

    Raises:
        CheckpointError: if a parent's tensor cannot be read or holds NaN or Inf.
        LookupError: if the method has no program for this tensor.
    """
    if task.copy_of is not None:
        return _COPY, None, [_on(device, plan.family.near(device, task.copy_of, task.name))]
    inputs = _inputs(plan, task, engine, device)
    program = None if task.method.program is None else task.method.program(inputs)
    if program is None:
        raise LookupError(f"{task.method.spec.name} has no program for {task.name}")
    return program, inputs.base, list(inputs.parents)


def prepared(plan: MergePlan, task: TensorTask) -> Any:
    """Return what the method of a task finds for it before it merges, on the CPU.

    Raises:
        CheckpointError: if a parent's tensor cannot be read or holds NaN or Inf.
    """
    import torch

    device = torch.device("cpu")
    return _inputs(plan, task, engine_for(device), device).prepared


def _inputs(plan: MergePlan, task: TensorTask, engine: KernelEngine, device: torch.device) -> Inputs:
    """Return the method's inputs, in the types of the files, with what its preparation finds."""
    assert task.values is not None  # a task is either copied or merged
    family, name = plan.family, task.name
    base = _on(device, family.near(device, BASE, name)) if task.reads_base else None
    parents = _Lazily([partial(_near, family, device, index, name) for index in task.inputs])
    inputs = Inputs(base, parents, task.values, task.seeds, at=place_of(family, task.tensor))
    if task.method.prepare is None:
        return inputs
    tensors = _TaskTensors(plan, task, engine, device)
    found = task.method.prepare(inputs, tensors)
    tensors.passed()
    return replace(inputs, prepared=found)


def _near(family: Family, device: torch.device, index: int, name: str) -> torch.Tensor:
    return _on(device, family.near(device, index, name))


class _Lazily(Sequence["torch.Tensor"]):
    """Tensors that are found when somebody asks for them: a sum of adapters needs none of them whole.

    They stay as long as this object, since kernels know tensors by their addresses.
    """

    def __init__(self, find: Sequence[Callable[[], torch.Tensor]]) -> None:
        self._find = find
        self._found: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._find)

    @overload
    def __getitem__(self, index: int) -> torch.Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[torch.Tensor]: ...
    def __getitem__(self, index: int | slice) -> torch.Tensor | list[torch.Tensor]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        if place not in self._found:
            self._found[place] = self._find[place]()
        return self._found[place]


def _low_rank_sum(
    plan: MergePlan, task: TensorTask, program: Program, device: torch.device
) -> tuple[torch.Tensor, list[Summand], list[tuple[float, torch.Tensor]]] | None:
    """Return what `write_sum` needs where a program is a weighted sum, and parents are low-rank changes of one tensor.

    Which methods are such sums is not known here: their programs say it.
    """
    family, name = plan.family, task.name
    if not family.adapted or program.masks or program.disjoint:
        return None
    weights = [(index, program.scale * w) for index, w in zip(task.inputs, program.weight, strict=True)]
    if task.reads_base:
        weights.insert(0, (BASE, 1.0 - sum(w for _, w in weights)))
    elif program.scale != 1.0:
        return None
    forms = [(index, weight, family.form(index, name)) for index, weight in weights]
    roots = [(model, own) for _, _, (model, own, change) in forms if change is not None]
    if not roots or (task.reads_base and forms[0][2][:2] != roots[0]):
        return None  # task vectors from another base are not of low rank
    terms, others = [], []
    for index, weight, (model, own, change) in forms:
        if (model, own) == roots[0]:
            terms.append(Summand(weight, change))
        elif weight != 0.0:
            others.append((weight, _near(family, device, index, name)))
    return _on(device, family.near_origin(device, *roots[0])), terms, others


class _TaskTensors:
    """What the preparation of one task may use; see `evomerge.merge.methods.base.ParentTensors`."""

    def __init__(self, plan: MergePlan, task: TensorTask, engine: KernelEngine, device: torch.device) -> None:
        self.engine = engine
        self.name = task.name
        self._family = plan.family
        self._names = plan.names
        self._inputs = task.inputs
        self._device = device
        self._base = (BASE,) if task.reads_base else ()
        self._other: str | None = None

    def once(
        self,
        key: Hashable,
        find: Callable[[], T],
        n_bytes: Callable[[T], int],
        *,
        what: str,
        of: Sequence[int] | None = None,
    ) -> T:
        of_tensor = isinstance(key, tuple) and any(isinstance(part, str) and part in self._names for part in key)
        cache = self._family.parent_cache
        return cache.get(key, find, n_bytes, what=what, models=self._serials(of), of_tensor=of_tensor)

    def passed(self) -> None:
        """Let go of the pages that were read last: a pass over models should not end with all of them in memory."""
        if self._other is not None and self._family.parent_cache.one_merge:
            for index in (*self._base, *self._inputs):
                self._family.release(index, self._other)
        self._other = None

    def lately(self, key: Hashable, find: Callable[[], T]) -> T:
        return self._family.parent_cache.recent((key, self._serials()), find)

    def _serials(self, of: Sequence[int] | None = None) -> tuple[int, ...]:
        wanted = self._inputs if of is None else [self._inputs[i] for i in of]
        return tuple(self._family.model(index).serial for index in (*self._base, *wanted))

    def tensors(self) -> Mapping[str, TensorAt]:
        return {
            each.name: place_of(self._family, each)
            for each in self._family.tensors
            if each.info.dtype.is_floating_point and not each.place.copied
        }

    def load(self, name: str, which: Sequence[int] | None = None) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
        if name != self._other:
            self.passed()
            self._other = name
        family, wanted = self._family, self._inputs if which is None else [self._inputs[i] for i in which]
        first = [*self._base, *self._inputs][0]
        device = family.home(first, name) or self._device  # a model's tensors may lie on several devices
        loaded = [_on(device, family.near(device, index, name)) for index in (*self._base, *wanted)]
        return (loaded[0], loaded[1:]) if self._base else (None, loaded)


def refuse(plan: MergePlan, task: TensorTask, out: torch.Tensor, rounded: torch.dtype | None = None) -> None:
    """Raise the error of a result that is not finite.

    Raises:
        RecipeError: always.
    """
    import torch

    made = torch.empty(out.shape, dtype=torch.float32, device=out.device)
    exact = replace(task, dtype=torch.float32)
    start_tensor(plan, exact, made)
    finite = made[made.isfinite()].abs()
    largest = f"largest finite value {finite.max().item():g}" if finite.numel() else "none of its values is finite"
    steps = [dtype for dtype in (task.dtype, rounded, out.dtype) if dtype is not None]
    at_fault = next((dtype for dtype in steps if not made.to(dtype).isfinite().all()), steps[-1])
    raise RecipeError(
        f"the merged {task.name} does not fit {str(at_fault).removeprefix('torch.')}: its values are not finite there "
        f"({largest}); use smaller weights or a type with a wider range"
    )


def _on(device: torch.device, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().to(device, non_blocking=True)
