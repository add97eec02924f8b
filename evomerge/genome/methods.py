"""The merge method as a gene: among which methods a search chooses, and what the user says about each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.errors import unknown_name
from evomerge.genome.settings import Setting, read_settings
from evomerge.recipe.method import MethodSpec


@dataclass(frozen=True)
class MethodChoice:
    """The merge method as a gene.

    Attributes:
        methods: those among which a search chooses; at least two, with different names.
        start: name of the one with which it begins.
        scope: "group": each region chooses; "global": the whole model.
    """

    methods: tuple[MethodSpec, ...]
    start: str
    scope: str = "group"


def read_methods(
    method: MethodSpec | MethodChoice,
    parents: Sequence[str],
    parameters: Mapping[str, Any],
    genes: Mapping[str, Any],
    problems: list[str],
) -> list[list[Setting]]:
    """Return the settings of each method's parameters; see `read_settings`.

    Args:
        method: the merge method, or a choice of several.
        parents: names of the parents.
        parameters, genes: as for `read_settings`; with a choice of methods, by name of the method.
        problems: gets one sentence per mistake; with any mistake, the result is of no use.
    """
    if isinstance(method, MethodSpec):
        return [read_settings(method, parents, parameters, genes, problems)]
    whole = method.scope == "global"
    return [
        read_settings(one, parents, fixed, own, problems, below=one.name, whole=whole)
        for one, (fixed, own) in zip(method.methods, _by_method(method, parameters, genes, problems), strict=True)
    ]


def _by_method(
    choice: MethodChoice, parameters: Mapping[str, Any], genes: Mapping[str, Any], problems: list[str]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return the fixed parameters and the genes of each method."""
    names = [method.name for method in choice.methods]
    for where, given in (("method.parameters", parameters), ("space.genes", genes)):
        for name, own in given.items():
            if name not in names:
                owners = [one.name for one in choice.methods if one.parameter(str(name)) is not None]
                problems.append(
                    f"`{where}.{name}`: with several methods, parameters stand below their method's name, like "
                    f"{{{owners[0]}: {{{name}: …}}}}"
                    if owners
                    else f"`{where}`: {unknown_name('method of `space.method.choices`', str(name), names)}"
                )
            elif own is not None and not isinstance(own, Mapping):
                problems.append(f"`{where}.{name}` must map parameters of {name} to their values, but came {own!r}")
    return [tuple(_mapping(given.get(name)) for given in (parameters, genes)) for name in names]  # type: ignore[misc]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
