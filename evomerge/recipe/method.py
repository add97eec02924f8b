"""What a merge method needs, as data: a space lays out its genes by it, without torch.

The arithmetic of each method, and its `MethodSpec`, are in `evomerge.merge.methods`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

SCOPES = ("group", "global")
"""Where a parameter may differ: in each group of tensors, or only between merges."""

TOPICS = (
    "averages",
    "angles",
    "task vectors",
    "sparse task vectors",
    "subspaces",
    "one model",
    "alignment",
    "layers",
    "others",
)
"""What methods work on, in the order of listings."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a merge method, declared once: spaces, checks, listings and the docs are made from it.

    Attributes:
        default: its value where a recipe gives none; its type is the parameter's (a flag, a word or a number).
        low, high: the range of a search if the user states none; whole numbers if `integer`.
        per_parent: whether it is one number per parent (a weight) rather than one for all (lambda, t).
        log: whether a search should move it on a logarithmic scale.
        choices: the words that it accepts if it is not a number; empty for numbers. Their order means nothing.
        gene: whether a search evolves it by default.
        doc: what it does, for people.
        scope: "group": groups of tensors may have values of their own, and a search gives each of its groups a gene;
            "global": a search gives the whole model one gene.
        integer: whether it is a whole number.
        when: other parameters of the method to the values with one of which this one counts, for example
            `{"sparsify": ("random",)}`. Where they have others, it sleeps: it is not searched there, and a recipe that
            gives it is refused.
        in_groups: whether a recipe's groups may set it. False for what the method must know for the whole model.
        for_first: of a per-parent parameter: whether the first parent has one, too. False where the first parent is
            what the others are added to, so that recipes need not name it, its number counts for nothing and no search
            gives it a gene.
        matrices: whether it counts in linear maps alone. A search then has no gene of it where all tensors are
            embeddings, norms or the head.
        of_layers: the share of a model's layers that `high` is where their number is known; None: `high` as it stands.
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
    scope: str = "group"
    integer: bool = False
    when: Mapping[str, tuple[float | bool | str, ...]] = field(default_factory=dict)
    in_groups: bool = True
    for_first: bool = True
    matrices: bool = False
    of_layers: float | None = None

    @property
    def kind(self) -> str:
        """What its values are: "flag", "choice", "integer" or "float"."""
        if self.choices:
            return "choice"
        if isinstance(self.default, bool):
            return "flag"
        return "integer" if self.integer else "float"


@dataclass(frozen=True)
class MethodSpec:
    """What a recipe must say to use a merge method; the arithmetic itself is in `evomerge.merge.methods`.

    Attributes:
        name: by which recipes name it.
        summary: what it does, in one line.
        paper: a link to its source.
        needs_base: whether task vectors are measured from a base, whatever the parameters.
        n_parents: the smallest and the largest number of parents; None: there is no upper limit.
        share: the per-parent parameter that is 0 for a parent which takes no part. With a base it says more: where a
            parent equals the base, no value of its parameters changes the result, so that 0 may as well stand there.
            None: this is not promised, and every group of tensors keeps its genes.
        share_with: with a base, parameters with whose values alone `share` says that more.
        of_equals: without a base, parameters with which equal parents give that very tensor, as they would with any
            value of the parameters that a search evolves (but for the last bit of fp32). Where parameters are fixed to
            other values than these, this does not hold. None: it never does.
        formula: the result in one line, with θ0 the base, θ_i a parent, τ_i = θ_i − θ0, w_i its weight.
        notes: what a user should know beyond the formula: edge cases, cost, differences from the authors' code.
        topic: one of `TOPICS`.
    """

    name: str
    summary: str
    paper: str
    parameters: tuple[Parameter, ...]
    needs_base: bool = True
    n_parents: tuple[int, int | None] = (1, None)
    share: str | None = None
    share_with: Mapping[str, float | bool | str] = field(default_factory=dict)
    of_equals: Mapping[str, float | bool] | None = None
    formula: str = ""
    notes: str = ""
    topic: str = "others"

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter of that name, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def at_depth(self, n_layers: int) -> MethodSpec:
        """Return the method with the ranges that a search has over models of so many layers."""
        if all(one.of_layers is None for one in self.parameters):
            return self
        fitted = (
            one if one.of_layers is None else replace(one, high=max(one.low + 1, int(one.of_layers * n_layers)))
            for one in self.parameters
        )
        return replace(self, parameters=tuple(fitted))
