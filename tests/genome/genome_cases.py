"""A merge method with every kind of parameter, and short ways to make spaces of it."""

from __future__ import annotations

from typing import Any

from evomerge.genome import ParameterSpace
from evomerge.recipe import ModelSource, Parent
from evomerge.recipe.method import MethodSpec, Parameter

METHOD = MethodSpec(
    name="mix",
    summary="",
    paper="",
    parameters=(
        Parameter("weight", 1.0, 0.0, 1.5, per_parent=True, doc="how much"),
        Parameter("density", 0.2, 0.05, 1.0, per_parent=True, log=True),
        Parameter("t", 0.5),
        Parameter("lambda", 1.0, 0.5, 2.5, scope="global"),
        Parameter("epsilon", 0.1, 0.0, 0.3, gene=False),
        Parameter("normalize", True, gene=False),
        Parameter("election", "sum", choices=("sum", "count"), gene=False),
    ),
)
PARENTS = (Parent("math", ModelSource("org/math")), Parent("ja", ModelSource("org/ja")))
BASE = Parent("base", ModelSource("org/base"))


def make(n_layers: int = 4, method: MethodSpec = METHOD, **arguments: Any) -> ParameterSpace:
    """A space over four layers in two blocks unless told otherwise."""
    arguments = {"parents": PARENTS, "base": BASE, "blocks": min(2, n_layers), **arguments}
    return ParameterSpace(method, n_layers=n_layers, **arguments)


def only(name: str, **changes: Any) -> MethodSpec:
    """The method with one of its parameters alone."""
    parameter = METHOD.parameter(name)
    assert parameter is not None
    return MethodSpec("one", "", "", (Parameter(**{**vars(parameter), **changes}),))
