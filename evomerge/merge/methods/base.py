"""What a merge method is: its specification, and one plain function from fp32 tensors to an fp32 tensor."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast

from evomerge.merge.kernels.engine import KernelEngine
from evomerge.merge.kernels.program import Program
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

Values: TypeAlias = Mapping[str, "float | bool | str | tuple[float, ...]"]
"""The parameters of one tensor: a tuple (one number per parent, in order) where the parameter is per parent."""

BASE = -1
"""Stands for the base where an input is named by its index among the parents."""

T = TypeVar("T")


@dataclass(frozen=True)
class Inputs:
    """What a method gets for one tensor. It must not change the tensors: they may be memory-mapped files.

    Attributes:
        base: fp32; None for methods that need no base.
        parents: fp32, each of the base's shape; only the parents that have an effect.
        values: parameters; per-parent tuples are in the order of `parents`.
        seeds: one per parent, for the random mask of this tensor.
        prepared: what the method's own preparation returned; None: find it from the tensors.
    """

    base: torch.Tensor | None
    parents: Sequence[torch.Tensor]
    values: Values
    seeds: Sequence[int] = ()
    prepared: Any = None

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
    def origin(self) -> torch.Tensor:
        """The base, for methods that need one."""
        assert self.base is not None  # the plan refuses a recipe without the base that its method needs
        return self.base


class ParentTensors(Protocol):
    """What a preparation may look at: the tensors that a task reads, those of the whole models, and the parent cache.

    Attributes:
        engine: computes on the tensors of a task.
        name: of the task's tensor.
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
        """Return what the parent cache keeps under a key for some models, or find it, and keep it if there is room.

        Args:
            key: what it is: a word of the method's choice, with `name` unless it is of whole models. Methods that use
                the same key share what is kept.
            find: finds it.
            n_bytes: its size.
            what: the same in plain words; if it cannot be kept, so that each candidate finds it again, the log says so.
            of: positions in `Inputs.parents` of those that it follows from, beside the base; None: all.
        """
        ...

    def lately(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return something small that the tensors of one candidate share; only the latest few are kept."""
        ...

    def sizes(self) -> Mapping[str, int]:
        """Return the number of entries of every tensor that is merged, by name, in the order of the models."""
        ...

    def load(self, name: str, which: Sequence[int] | None = None) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return one tensor of the base and of some parents, contiguous; do not change them.

        Args:
            name: of any tensor in `sizes`.
            which: positions in `Inputs.parents`; None: all of them.

        Raises:
            CheckpointError: if a tensor cannot be read or holds NaN or Inf.
        """
        ...


class Preparation(Protocol):
    """Finds what a method wants to know of the parents beside their entries: most of it once per search.

    What callers may assume: the result follows from the tensors and the values alone, so that it does not matter what
    the cache happened to keep.
    """

    def __call__(self, inputs: Inputs, tensors: ParentTensors) -> Any:
        """Return what becomes `Inputs.prepared`.

        Args:
            inputs: of one tensor, in the types of the files.
            tensors: gives more than these, and the cache.

        Raises:
            CheckpointError: if a tensor cannot be read or holds NaN or Inf.
        """
        ...


@dataclass(frozen=True)
class Method:
    """A merge method: a reference, and what makes it fast.

    The contract is "prepare once, apply per candidate". What can be known of the parents without a genome is found once
    and kept, by a preparation of the method's own; a candidate then costs one pass of a fused kernel over its inputs,
    described by `program`. Both must give what `merge` gives, to the last bit; tests hold them to it.
    A method that masks task vectors by another rule (Breadcrumbs' two cuts, DELLA's ranks within rows) brings a further
    kind of mask beside `Cut` and `Drop`; the election and the sums stay as they are.

    Attributes:
        merge: the reference: the arithmetic of the paper, for one tensor, in plain torch. It gets what was prepared,
            too, if the method has no `program`.
        program: the same as a program for the fused kernels; it must not look into the tensors, only at values, seeds
            and what was prepared. None: the method runs by its reference, several times slower.
        prepare: finds `Inputs.prepared`; None: there is nothing to find.
        prepare_without_torch: whether `prepare` looks into the tensors through the engine alone, so that common
            checkpoints can be merged to disk without torch (`evomerge.merge.disk.plain`).
        active: indices of the parents that have an effect under these values; the others are not even read.
        one_input: index of the input (`BASE` for the base) that the result equals exactly, or None. Such a tensor is
            copied bit for bit; fp32 arithmetic would not always give it back: θ0 + (θ − θ0) rounds.
        shows_bad: whether a NaN or Inf in any parent that is read (or the base) always makes the result one, so that
            the parents need no pass of their own to be checked.
        problems: what is wrong with these values, one sentence each, for example a negative density.
        order_free: whether the order of the parents has no meaning. The parents are then taken in the order of their
            names, so that listing them in another order gives the same bytes.
    """

    spec: MethodSpec
    merge: Callable[[Inputs], torch.Tensor]
    active: Callable[[Values], tuple[int, ...]]
    one_input: Callable[[Values], int | None]
    problems: Callable[[Values], list[str]]
    order_free: bool = True
    shows_bad: bool = False
    program: Callable[[Inputs], Program] | None = None
    prepare: Preparation | None = None
    prepare_without_torch: bool = False


def nonzero(values: Values, *names: str) -> tuple[int, ...]:
    """Return indices of the parents for which each of the per-parent parameters `names` is not 0."""
    columns = [cast("tuple[float, ...]", values[name]) for name in names]
    return tuple(i for i, row in enumerate(zip(*columns, strict=True)) if all(row))


def out_of_range(values: Values, name: str, low: float, high: float) -> list[str]:
    """Return one sentence for each number of parameter `name` that is not in [low, high]."""
    value = values[name]
    numbers = value if isinstance(value, tuple) else (cast(float, value),)
    return [
        f"{name} must be between {low:g} and {high:g}, but came {number:g}"
        for number in numbers
        if not low <= number <= high
    ]


def weighted_sum(tensors: Sequence[torch.Tensor], weight: Sequence[float]) -> torch.Tensor:
    """Return Σ w_i x_i; each product is rounded before it is added, as in the fused kernels."""
    import torch

    total = torch.zeros_like(tensors[0])
    for w, tensor in zip(weight, tensors, strict=True):
        total += tensor * w
    return total


def task_vectors(inputs: Inputs) -> list[torch.Tensor]:
    """τ_i = θ_i − θ0, new tensors that may be changed in place."""
    return [parent - inputs.origin for parent in inputs.parents]


WEIGHT = Parameter("weight", 1.0, 0.0, 1.5, per_parent=True, doc="w_i, how much of each parent's task vector is added")
SUM_LAMBDA = Parameter(
    "lambda", 1.0, 0.0, 2.0, gene=False, doc="λ, scales the summed task vectors; a search moves the weights instead"
)
MEAN_LAMBDA = Parameter("lambda", 1.0, 0.5, 2.5, doc="λ, scales the merged task vector")
ELECTION = Parameter(
    "election",
    "sum",
    choices=("sum", "count"),
    gene=False,
    doc="the sign of an entry: of the weighted sum, or of the majority of parents; a draw is +",
)
NORMALIZE_MEAN = Parameter(
    "normalize", True, gene=False, doc="true: mean of the entries that agree (the paper); false: their weighted sum"
)
