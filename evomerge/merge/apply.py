"""Compute one tensor of a plan, straight into the memory where it is wanted: fp32 arithmetic, one cast at the end.

On disk and in memory it is the same function, so the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from evomerge.errors import RecipeError
from evomerge.merge.files.flat import Flat
from evomerge.merge.kernels.engine import Engine, engine_for
from evomerge.merge.kernels.program import Cut, Program
from evomerge.merge.methods.base import BASE, Dots, Inputs
from evomerge.merge.methods.ties import cut_of, cut_of_magnitudes
from evomerge.merge.plan import Plan, TensorTask
from evomerge.merge.quantiles import Deltas, QuantileTable, cuts, make_table

if TYPE_CHECKING:
    import torch

    from evomerge.merge.family import Family

SMALL = 1 << 14
"""Entries up to which a tensor is simply sorted: it takes no longer than looking its quantile up."""

_COPY = Program(weight=(1.0,))


def merge_tensor(plan: Plan, task: TensorTask) -> torch.Tensor:
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


def write_tensor(plan: Plan, task: TensorTask, out: torch.Tensor, *, rounded: torch.dtype | None = None) -> None:
    """Give a tensor the values of a task, in place.

    Args:
        plan: of which the task is one.
        task: what to compute.
        out: where to; of the task's shape, in any floating-point type. The values are rounded to the task's type first.
        rounded: a further type to round to, before out's own.

    Raises:
        CheckpointError: if a parent's tensor cannot be read or holds NaN or Inf; `out` is then as it was.
        RecipeError: if the result is not finite; `out` then holds a part of it.
    """
    bad = start_tensor(plan, task, out, rounded=rounded)
    if bad:  # for a tensor of a GPU, this waits for it
        refuse(plan, task, out, rounded)


def start_tensor(
    plan: Plan, task: TensorTask, out: torch.Tensor, *, rounded: torch.dtype | None = None
) -> int | torch.Tensor:
    """Do as `write_tensor`, but return whether the result is not finite instead of raising; see `refuse`."""
    family, name = plan.family, task.name
    if not task.dtype.is_floating_point or task.tensor.place.buffer:
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
    if plan.method.program is not None:
        program, base, parents = program_of(plan, task, engine, out.device)
        return engine.run(program, base, parents, out, roundings=roundings)
    base = _on(out.device, family.near(out.device, BASE, name)) if plan.method.spec.needs_base else None
    parents = [_on(out.device, family.near(out.device, index, name)) for index in task.inputs]
    assert task.values is not None  # a task is either copied or merged
    made = plan.method.merge(
        Inputs(None if base is None else base.float(), [each.float() for each in parents], task.values, task.seeds)
    )
    return engine.run(_COPY, None, [made.contiguous()], out, roundings=roundings)


def program_of(
    plan: Plan, task: TensorTask, engine: Engine, device: torch.device
) -> tuple[Program, torch.Tensor | None, list[torch.Tensor]]:
    """Return what the engine has to run for a task whose method has a program, and the tensors that it reads.

    Raises:
        CheckpointError: if a parent's tensor cannot be read or holds NaN or Inf.
    """
    family, name = plan.family, task.name
    if task.copy_of is not None:
        return _COPY, None, [_on(device, family.near(device, task.copy_of, name))]
    base = _on(device, family.near(device, BASE, name)) if plan.method.spec.needs_base else None
    parents = [_on(device, family.near(device, index, name)) for index in task.inputs]
    assert plan.method.program is not None
    assert task.values is not None  # a task is either copied or merged
    inputs = Inputs(
        base,
        parents,
        task.values,
        task.seeds,
        cuts=_cuts(plan, task, engine, base, parents) if plan.method.prepares == "cuts" else None,
        dots=_dots(plan, task, engine, parents) if plan.method.prepares == "dots" else None,
    )
    return plan.method.program(inputs), base, parents


def refuse(plan: Plan, task: TensorTask, out: torch.Tensor, rounded: torch.dtype | None = None) -> None:
    """Raise the error of a result that is not finite.

    Raises:
        RecipeError: always.
    """
    import torch

    made = torch.empty(out.shape, dtype=torch.float32, device=out.device)
    exact = TensorTask(task.tensor, torch.float32, task.copy_of, task.inputs, task.values, task.seeds)
    start_tensor(plan, exact, made)
    finite = made[made.isfinite()].abs()
    largest = finite.max().item() if finite.numel() else math.nan
    steps = [dtype for dtype in (task.dtype, rounded, out.dtype) if dtype is not None]
    at_fault = next((dtype for dtype in steps if not made.to(dtype).isfinite().all()), steps[-1])
    raise RecipeError(
        f"the merged {task.name} does not fit {str(at_fault).removeprefix('torch.')}: its values are not finite there "
        f"(largest finite value {largest:g}); use smaller weights or a type with a wider range"
    )


def _on(device: torch.device, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().to(device, non_blocking=True)


def _dots(plan: Plan, task: TensorTask, engine: Engine, parents: Sequence[torch.Tensor]) -> Dots:
    return plan.family.prepared.get(
        ("dots", *(plan.family.model(index).serial for index in task.inputs), task.name),
        lambda: engine.dots(*parents),
        lambda dots: 64,
        what="the norms and the angles of the parents' tensors",
    )


def _cuts(
    plan: Plan, task: TensorTask, engine: Engine, base: torch.Tensor | None, parents: Sequence[torch.Tensor]
) -> list[Cut]:
    assert task.values is not None
    assert base is not None  # a cut is of a task vector
    densities = cast("tuple[float, ...]", task.values["density"])
    family, name, n = plan.family, task.name, base.numel()
    if task.values.get("scope") == "model":
        return model_cuts(family, task.inputs, densities, base.device)[name]
    if n <= SMALL:
        return [_small_cut(base, parent, each) for parent, each in zip(parents, densities, strict=True)]
    deltas = [Deltas(n, lambda: (base, parents))]
    tables = [_table(family, engine, (index, name), deltas, which) for which, index in enumerate(task.inputs)]
    made = cuts(engine, deltas, tables, [math.floor(density * n) for density in densities])
    return [cut for (cut,) in made]


def _small_cut(base: torch.Tensor | Flat, parent: torch.Tensor | Flat, density: float) -> Cut:
    if isinstance(base, Flat) and isinstance(parent, Flat):
        return cut_of_magnitudes(np.abs(parent.fp32() - base.fp32()), density)
    assert not isinstance(base, Flat)  # they are of one family
    assert not isinstance(parent, Flat)
    return cut_of(parent.float() - base.float(), density)


def model_cuts(
    family: Family, parents: Sequence[int], densities: Sequence[float], device: torch.device
) -> dict[str, list[Cut]]:
    """Return, for each tensor, the cuts that keep the top ⌊density·q⌋ of all q entries of each parent's task vector.

    Of equal entries the first are kept, in the order of the tensors. Never holds more than one tensor of each parent.
    """
    engine = engine_for(device)

    def load(name: str, some: Sequence[int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        place = family.home(BASE, name) or device  # the base's tensors may stay on several devices
        base, *parents = (_on(place, family.near(place, each, name)) for each in (BASE, *some))
        return base, parents

    def find() -> dict[str, list[Cut]]:
        sizes = {
            each.name: math.prod(family.info(BASE, each.name).shape)
            for each in family.tensors
            if each.info.dtype.is_floating_point and not each.place.buffer
        }

        def parts(some: Sequence[int]) -> list[Deltas]:
            return [Deltas(n, partial(load, name, some)) for name, n in sizes.items()]

        tables = [_table(family, engine, (parent, None), parts([parent])) for parent in parents]
        ks = [math.floor(density * table.n) for density, table in zip(densities, tables, strict=True)]
        made = cuts(engine, parts(parents), tables, ks)
        return {name: list(row) for name, row in zip(sizes, zip(*made, strict=True), strict=True)}

    serials = tuple(_of(family, parent) for parent in parents)
    return family.prepared.recent(("cuts", serials, tuple(densities)), find)


def _of(family: Family, parent: int) -> tuple[int, int]:
    return family.model(BASE).serial, family.model(parent).serial


def _table(
    family: Family, engine: Engine, of: tuple[int, str | None], parts: Sequence[Deltas], which: int = 0
) -> QuantileTable:
    return family.prepared.get(
        ("quantiles", *_of(family, of[0]), of[1]),
        lambda: make_table(engine, parts, which),
        lambda table: table.n_bytes,
        what="the quantile tables of the parents' task vectors",
    )
