"""What a merge method needs, as data: a space lays out its genes by it, without torch.

The arithmetic of each method, and its `MethodSpec`, are in `evomerge.merge.methods`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """One parameter of a merge method: its default, and the range of a search if the user states none.

    Attributes:
        per_parent: whether it is one number per parent (a weight) rather than one per tensor (lambda, t).
        log: whether a search should move it on a logarithmic scale.
        choices: the words that it accepts if it is not a number; empty for numbers.
        gene: whether a search evolves it by default.
    """

    name: str
    default: float | bool | str
    low: float = 0.0
    high: float = 1.0
    per_parent: bool = False
    log: bool = False
    choices: tuple[str, ...] = ()
    gene: bool = True
    doc: str = ""


@dataclass(frozen=True)
class MethodSpec:
    """What a recipe must say to use a merge method; the arithmetic itself is in `evomerge.merge.methods`.

    Attributes:
        needs_base: whether task vectors are measured from a base.
        n_parents: the smallest and the largest number of parents; None: there is no upper limit.
        share: the per-parent parameter that is 0 for a parent which takes no part. With a base it says more: where a
            parent equals the base, no value of its parameters changes the result, so that 0 may as well stand there.
            None: this is not promised, and every group of tensors keeps its genes.
        of_equals: without a base, parameters with which equal parents give that very tensor, as they would with any
            value of the parameters that a search evolves (but for the last bit of fp32). Where parameters are fixed to
            other values than these, this does not hold. None: it never does.
    """

    name: str
    summary: str
    paper: str
    parameters: tuple[Parameter, ...]
    needs_base: bool = True
    n_parents: tuple[int, int | None] = (1, None)
    share: str | None = None
    of_equals: Mapping[str, float | bool] | None = None

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter of that name, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)
