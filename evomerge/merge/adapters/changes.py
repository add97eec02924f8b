"""What an adapter does to the tensors of its base, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from evomerge.merge.adapters.weights import Factors


@dataclass(frozen=True)
class StackPlace:
    """Where a tensor of a file lies in a stack of matrices that the model makes of several files' tensors."""

    expert: int
    row: int
    column: int
    transposed: bool


@dataclass(frozen=True)
class Product:
    """A change s·B·A of one tensor of the base.

    Attributes:
        names: the adapter's tensors.
        scale: s.
        experts: how many matrices A and B hold the factors of, or 0 for one alone.
        transposed: whether the base's matrix is inputs × outputs, so that the change is (B·A)ᵀ.
        part: where the tensor lies in the stack that A and B change; None: it is all of it.
    """

    names: Factors
    scale: float
    experts: int = 0
    transposed: bool = False
    part: StackPlace | None = None


@dataclass(frozen=True)
class Change:
    """All that an adapter does to one tensor of its base, in this order.

    Attributes:
        whole: the adapter's tensors that replace it; several must be equal.
        rows: the adapter's tensor that replaces some rows, and their numbers.
        product: a low-rank change.
        added: the adapter's tensor that is added, and its factor.
    """

    whole: tuple[str, ...] = ()
    rows: tuple[str, tuple[int, ...]] | None = None
    product: Product | None = None
    added: tuple[str, float] | None = None


@dataclass
class Changes:
    """The tensors of the base that an adapter changes.

    Attributes:
        of: name in the base's files to the change.
        n_rows: how many tokens the result has rows for; None: as many as the base.
    """

    of: dict[str, Change] = field(default_factory=dict)
    n_rows: int | None = None
