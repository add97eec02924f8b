"""What a merge method is: its specification, and one plain function from fp32 tensors to an fp32 tensor."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast

from evomerge.merge.kernels.engine import KernelEngine
from evomerge.merge.kernels.program import Program
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.recipe.method import MethodSpec

if TYPE_CHECKING:
    import torch

Values: TypeAlias = Mapping[str, "float | bool | str | tuple[float, ...]"]
"""The parameters of one tensor: a tuple (one number per parent, in order) where the parameter is per parent."""

BASE = -1
"""The index that stands for the base among indices of parents."""

T = TypeVar("T")


@dataclass(frozen=True)
class Inputs:
    """What a method gets for one tensor. It must not change the tensors, which may be memory-mapped files.

    Attributes:
        base: fp32; None for methods that read no base.
        parents: fp32, each of the base's shape; only the parents that have an effect.
        values: parameters; per-parent tuples are in the order of `parents`.
        seeds: one per parent, for the random mask of this tensor.
        prepared: what the method's preparation returned; None: the method finds it from the tensors.
        at: the tensor's name, role, layer and shape.
    """

    base: torch.Tensor | None
    parents: Sequence[torch.Tensor]
    values: Values
    seeds: Sequence[int] = ()
    prepared: Any = None
    at: TensorAt | None = None

    def number(self, name: str) -> float:
        """Return a parameter that is one number."""
        return cast(float, self.values[name])

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return a parameter that is one number per parent."""
        return cast("tuple[float, ...]", self.values[name])

    def word(self, name: str) -> str:
        """Return a parameter that is a word."""
        return cast(str, self.values[name])

    @property
    def place(self) -> TensorAt:
        """Which tensor it is."""
        assert self.at is not None  # set for every tensor of a model
        return self.at

    @property
    def origin(self) -> torch.Tensor:
        """The base, for methods that need one."""
        assert self.base is not None  # the plan refuses recipes without a base if the method reads one
        return self.base


class ParentTensors(Protocol):
    """What a preparation may use: the tensors that a task reads, those of the whole models, and the parent cache.

    Attributes:
        engine: computes on the tensors of a task.
        name: the name of the task's tensor.
    """

    engine: KernelEngine
    name: str

    def once(
        self,
        key: Hashable,
        find: Callable[[], T],
        n_bytes: Callable[[T], int],
        *,
        what: str,
        of: Sequence[int] | None = None,
    ) -> T:
        """Return what the parent cache holds under a key for some models; if nothing, find it and keep it if it fits.

        Args:
            key: a word of the method's choice, with `name` unless the value is one of whole models. Methods with the
                same key share values.
            find: finds the value.
            n_bytes: returns the size of a value.
            what: the value in plain words, for the log if it cannot be kept and each candidate must find it again.
            of: positions in `Inputs.parents` of the parents on which the value depends, beside the base; None: all.
        """
        ...

    def lately(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return something small that the tensors of one candidate share; only the latest few are kept."""
        ...

    def tensors(self) -> Mapping[str, TensorAt]:
        """Return every tensor that is merged, by name, in the order of the models.

        It holds all tensors of the model but buffers and integers, also those that another group of the recipe merges
        with other parameters or another method.
        """
        ...

    def load(self, name: str, which: Sequence[int] | None = None) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
        """Return one tensor of the base (None for methods that read none) and of some parents, contiguous.

        Do not change them.

        Args:
            name: a name in `tensors`.
            which: positions in `Inputs.parents`; None: all of them.

        Raises:
            CheckpointError: if a tensor cannot be read or holds NaN or Inf.
        """
        ...


class Preparation(Protocol):
    """Finds what a method needs to know about the parents beside their entries, most of it once per search.

    What callers may assume: the result depends on the tensors and the values alone, not on what the cache happens to
    hold.
    """

    def __call__(self, inputs: Inputs, tensors: ParentTensors) -> Any:
        """Return what becomes `Inputs.prepared`.

        Args:
            inputs: the inputs for one tensor, in the types of the files.
            tensors: access to further tensors and to the cache.

        Raises:
            CheckpointError: if a tensor cannot be read or holds NaN or Inf.
        """
        ...


@dataclass(frozen=True)
class Method:
    """A merge method: a reference, and what makes it fast.

    The contract is "prepare once, apply per candidate". The method's own preparation finds and keeps what can be known
    about the parents without a genome; a candidate then costs one pass of a fused kernel over its inputs, described by
    `program`. Both must give what `merge` gives, to the last bit; tests check that.

    Attributes:
        merge: the reference: the arithmetic of the paper, for one tensor, in plain torch. If the method has no
            `program`, it gets what was prepared.
        program: returns the same as a program for the fused kernels. It must not read the tensors, only values, seeds,
            the tensor's place and what was prepared. None, or a program that is None for some tensors: the reference is
            run, several times slower.
        fused: whether `program` gives one for every tensor with these values; None: with any values it does. Merges
            with others are computed by torch.
        prepare: finds `Inputs.prepared`; None: there is nothing to find.
        prepare_without_torch: whether `prepare` reads tensors through the engine alone, so that common checkpoints can
            be merged to disk without torch (`evomerge.merge.disk.plain`).
        active: returns the indices of the parents that have an effect with these values; others are not read. None: all
            of them always do.
        one_input: returns the index of the input (`BASE` for the base) that the result equals exactly, or None. Such a
            tensor is copied bit for bit, since fp32 arithmetic need not reproduce it: θ0 + (θ − θ0) rounds.
        shows_bad: whether a NaN or Inf in the base or in any parent that is read always shows in the result, so that
            the parents need no pass of their own to be checked.
        problems: returns the mistakes in these values, one sentence each, for example a negative density.
        order_free: whether the order of the parents has no meaning. They are then taken in the order of their names, so
            that any order in the recipe gives the same bytes.
        values_at: returns the values for one tensor, where they depend on which tensor it is (its layer, its role);
            everything else is then asked with these. None: the recipe's values hold as they are.
        reads_base: whether task vectors are measured from a base with these values; None: `spec.needs_base` says so.
            The recipe is refused if it has no base then.
        block: the reference where no program is, for a flat part of a tensor: gets inputs whose tensors are that part,
            in fp32, what was prepared for the whole, and the flat index of the first entry. None: `merge` gets whole
            tensors, in fp32, which take twice the memory of half-precision models.
    """

    spec: MethodSpec
    merge: Callable[[Inputs], torch.Tensor]
    active: Callable[[Values], tuple[int, ...]] | None
    one_input: Callable[[Values], int | None]
    problems: Callable[[Values], list[str]]
    order_free: bool = True
    shows_bad: bool = False
    program: Callable[[Inputs], Program | None] | None = None
    fused: Callable[[Values], bool] | None = None
    prepare: Preparation | None = None
    prepare_without_torch: bool = False
    values_at: Callable[[Values, TensorAt], Values] | None = None
    reads_base: Callable[[Values], bool] | None = None
    block: Callable[[Inputs, int], torch.Tensor] | None = None

    def uses_base(self, values: Values) -> bool:
        """Return whether the base's tensors are read with these values."""
        return self.spec.needs_base if self.reads_base is None else self.reads_base(values)


def nonzero(values: Values, *names: str) -> tuple[int, ...]:
    """Return the indices of the parents for which each of the per-parent parameters `names` is not 0."""
    columns = [cast("tuple[float, ...]", values[name]) for name in names]
    return tuple(i for i, row in enumerate(zip(*columns, strict=True)) if all(row))


def only_weighted(values: Values) -> int | None:
    """Return the parent whose weight alone is not 0; None if there are several or none."""
    active = nonzero(values, "weight")
    return active[0] if len(active) == 1 else None


def first_and_weighted(values: Values) -> tuple[int, ...]:
    """Return the first parent, whatever its weight, and those others whose weight is not 0."""
    return (0, *(i for i in nonzero(values, "weight") if i))


def out_of_range(values: Values, name: str, low: float, high: float) -> list[str]:
    """Return one sentence for each number of parameter `name` that is not in [low, high]."""
    value = values[name]
    numbers = value if isinstance(value, tuple) else (cast(float, value),)
    return [
        f"{name} must be between {low:g} and {high:g}, but came {number:g}"
        for number in numbers
        if not low <= number <= high
    ]


def too_small(values: Values, name: str, low: float = 0.0, *, above: bool = False) -> list[str]:
    """Return one sentence for each number of parameter `name` that is below `low`; with `above` also for `low`."""
    value = values[name]
    numbers = value if isinstance(value, tuple) else (cast(float, value),)
    wanted = f"above {low:g}" if above else f"{low:g} or more"
    return [
        f"{name} must be {wanted}, but came {number:g}"
        for number in numbers
        if number < low or (above and number == low)
    ]


def weighted_sum(tensors: Sequence[torch.Tensor], weight: Sequence[float]) -> torch.Tensor:
    """Return Σ w_i x_i; each product is rounded before it is added, as in the fused kernels."""
    import torch

    total = torch.zeros_like(tensors[0])
    for w, tensor in zip(weight, tensors, strict=True):
        total += tensor * w
    return total


def task_vectors(inputs: Inputs) -> list[torch.Tensor]:
    """Return τ_i = θ_i − θ0 as new tensors, which may be changed in place."""
    return [parent - inputs.origin for parent in inputs.parents]


BLOCK = 1 << 16
"""Entries that element-wise arithmetic on a CPU takes at once: its temporary tensors then stay in the cache."""


def in_blocks(inputs: Inputs, merge: Callable[[Inputs, int], torch.Tensor]) -> torch.Tensor:
    """Return what element-wise arithmetic makes of a tensor, block by block.

    Args:
        inputs: with a base, of any floating-point types.
        merge: gets inputs whose tensors are flat parts of these, in fp32, and the flat index of their first entry.
    """
    import torch

    out = torch.empty_like(inputs.origin, dtype=torch.float32, memory_format=torch.contiguous_format)
    flat = out.view(-1)
    for start, part in blocks_of(inputs):
        made = merge(part, start)
        flat[start : start + made.numel()] = made
    return out


def blocks_of(inputs: Inputs) -> Iterator[tuple[int, Inputs]]:
    """Yield the flat parts of a tensor's inputs in fp32, each with the flat index of its first entry."""
    base, *parents = [x.reshape(-1) for x in (inputs.origin, *inputs.parents)]
    n = base.numel()
    size = BLOCK if base.device.type == "cpu" else max(n, 1)
    for start in range(0, n, size):
        part = replace(
            inputs,
            base=base[start : start + size].float(),
            parents=[parent[start : start + size].float() for parent in parents],
        )
        yield start, part


def in_double(
    function: Callable[..., torch.Tensor], *tensors: torch.Tensor, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Return what element-wise arithmetic in float64 makes of tensors, as fp32 on the CPU, block by block.

    Args:
        function: gets flat parts of the tensors in float64, and returns one of their size.
        tensors: of one shape and any floating-point types.
        out: contiguous fp32 memory for the result, which may be that of a tensor; None: new memory.
    """
    import torch

    flat = [tensor.cpu().reshape(-1) for tensor in tensors]
    out = torch.empty(tensors[0].shape, dtype=torch.float32) if out is None else out
    into, n = out.view(-1), out.numel()
    for start in range(0, n, BLOCK):
        into[start : start + BLOCK] = function(*(one[start : start + BLOCK].double() for one in flat))
    return out
