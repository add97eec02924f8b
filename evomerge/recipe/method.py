"""What a merge method asks for, as data: a space needs this to lay out its genes, and needs no torch for it.

The arithmetic of each method, and its `MethodSpec`, are in `evomerge.merge.methods`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """One parameter of a merge method: its default and the range that a search uses when the user states none.

    Attributes:
        per_parent: one number per parent (a weight), rather than one per tensor (lambda, t).
        log: whether a search should move it on a logarithmic scale.
        choices: the words it takes, for parameters that are not numbers; empty for numbers.
        gene: whether a search evolves it unless told otherwise.
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
        n_parents: smallest and largest number of parents; None: no upper limit.
    """

    name: str
    summary: str
    paper: str
    parameters: tuple[Parameter, ...]
    needs_base: bool = True
    n_parents: tuple[int, int | None] = (1, None)

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter of that name, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)
