"""What a mergekit file gives each tensor, as a recipe's parameters and groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from evomerge.errors import RecipeError
from evomerge.interop.mergekit.parts import shortest_parts
from evomerge.interop.mergekit.values import Decision, parts_of, value_of
from evomerge.recipe import Group, Value

Key: TypeAlias = tuple[str, str | None]
"""A parameter and the parent to which it belongs; None: to all."""

Numbers: TypeAlias = Mapping[Key, float | None]
Translate: TypeAlias = Callable[[Numbers], Mapping[str, Value]]
Rows: TypeAlias = tuple[tuple[str | None, Mapping[str, Value]], ...]


def rows_at(decisions: Mapping[Key, Decision], translate: Translate, names: Sequence[str] | None) -> Rows:
    """Return the parameters of the tensors of a place, by parts of names; the last entry takes what is left.

    Args:
        decisions: each number, by names of tensors.
        translate: makes parameters of numbers.
        names: of the tensors there; None: not known. Then the filters of several numbers must not cross.

    Raises:
        RecipeError: if names are needed and not known.
    """
    lists = sorted(parts_of(list(decisions.values())), key=len)
    longest = lists[-1] if lists else []
    if all(longest[: len(one)] == one for one in lists):
        found: list[tuple[str | None, Numbers]] = [
            (part, {key: _after(decision, i) for key, decision in decisions.items()})
            for i, part in enumerate([*longest, None])
            if part is None or names is None or any(part in name for name in names)
        ]
    elif names is None:
        crossing = " and ".join(", ".join(one) for one in lists)
        raise RecipeError(
            f"several parameters have filters of their own ({crossing}), which can be joined only by the names of "
            f"the tensors, but the models are not on this machine"
        )
    elif not names:
        found = [(None, {key: decision[-1][1] for key, decision in decisions.items()})]
    else:
        keys = list(decisions)
        values = {name: tuple(value_of(decisions[key], name) for key in keys) for name in names}
        found = [(part, dict(zip(keys, row, strict=True))) for part, row in shortest_parts(values)]
    rows = [(part, translate(numbers)) for part, numbers in found]
    while len(rows) > 1 and rows[-2][1] == rows[-1][1]:
        del rows[-2]
    return tuple(rows)


def _after(decision: Decision, i: int) -> float | None:
    return decision[min(i, len(decision) - 1)][1]


def groups_of(pre: Rows, layers: Sequence[Rows], post: Rows) -> tuple[Mapping[str, Value], tuple[Group, ...]]:
    """Return the parameters and the groups of a recipe.

    Args:
        pre: the parameters of what stands before the layers.
        layers: those of each layer; none where all are those of `post`.
        post: those of what stands behind the layers.
    """
    top = post[-1][1]
    catch_all = len(post) > 1
    found: list[Group] = []

    def add(rows: Rows, layers: tuple[int, int] | None, roles: tuple[str, ...] | None) -> None:
        parts: list[str] = []
        for i, (part, values) in enumerate(rows):
            own = {name: value for name, value in values.items() if top.get(name) != value}
            if part is None:
                if own or catch_all:
                    found.append(Group(own, layers, roles))
                return
            parts.append(part)
            if rows[i + 1][1] != values or rows[i + 1][0] is None:
                found.append(Group(own, layers, roles, tensors=tuple(parts)))
                parts = []

    if pre != post:
        add(pre, None, ("embedding",))
    start = 0
    for stop in range(1, len(layers) + 1):
        if stop == len(layers) or layers[stop] != layers[start]:
            if layers[start] != post:
                add(layers[start], (start, stop), None)
            start = stop
    if catch_all:
        catch_all = False
        add(post, None, None)
    return top, tuple(found)


def missing(decision: Decision) -> bool:
    """Return whether a number is given to no tensor, or not to all."""
    return any(value is None for _, value in decision)
