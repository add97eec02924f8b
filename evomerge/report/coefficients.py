"""What a recipe says for each layer, role and parent, found as merging finds it: by the first group that matches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evomerge.recipe import ROLES, Group, Recipe
from evomerge.recipe.lineage import flatten
from evomerge.system.text import value_word

EMBEDDINGS, FINAL_NORM, HEAD, OUTSIDE, ALL = "embeddings", "final norm", "head", "others", "all layers"
"""Places that are no layer; the last one stands for all layers where their number is not known."""

_OUTER = {"embedding": EMBEDDINGS, "norm": FINAL_NORM, "head": HEAD, "other": OUTSIDE}
_INNER = tuple(role for role in ROLES if role not in ("embedding", "head"))
_LAYERS = re.compile(r"layers?(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Coefficient:
    """The value of one parameter in one place.

    Attributes:
        parameter: its name.
        parent: whose it is; empty: one value for all parents.
        part: the roles inside of a layer, or parts of names, that have it; empty: all, or outside of layers.
        place: a layer's number, or one of the places that are no layer.
        value: a number; words and flags are left to `words`.
        method: the merge method there.
        group: the name of the recipe's group; empty: none, or it has no name.
        words: all that the place says that is no number.
    """

    parameter: str
    parent: str
    part: str
    place: str
    value: float
    method: str
    group: str
    words: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is the value of."""
        return self.parameter, self.parent, self.part, self.place


def merged_part(recipe: Recipe) -> tuple[Recipe | None, str]:
    """Return the recipe whose numbers are worth a picture, and which it is in words.

    A recipe of recipes is flattened as far as its methods are linear. Of a layer path it is the first parent that is
    itself merged; None: the path is of checkpoints alone.
    """
    if recipe.path:
        for parent in recipe.parents:
            if isinstance(parent.source, Recipe):
                found, words = merged_part(parent.source)
                if found is not None:
                    return found, f"of {parent.name}, a parent of the path" + (f", {words}" if words else "")
        return None, ""
    flat = flatten(recipe)
    return flat, "" if flat is recipe else "with merges of merges as one"


def n_layers(recipe: Recipe, gene_names: Sequence[str] = ()) -> int | None:
    """Return how many layers the groups of a recipe or the genes of its search name; None: none are named."""
    stops = [group.layers[1] for group in recipe.groups if group.layers is not None]
    for name in gene_names:
        for first, last in _LAYERS.findall(name):
            stops.append(int(last or first) + 1)
    return max(stops, default=None)


def coefficients(recipe: Recipe, layers: int | None) -> list[Coefficient]:
    """Return what a recipe without a path says for each place.

    Roles that have the same everywhere are one part.

    Args:
        recipe: the recipe.
        layers: how many it has; None: that is not known.
    """
    inside = [str(layer) for layer in range(layers)] if layers else [ALL]
    numbers: list[int | None] = list(range(layers)) if layers else [None]
    # Which roles can be told apart: by the groups that hold for them, layer by layer.
    alike: dict[tuple[object, ...], list[str]] = {}
    for role in _INNER:
        said = tuple(_said(recipe, recipe.group_of(role, number)) for number in numbers)
        alike.setdefault(said, []).append(role)
    found: list[Coefficient] = []
    for roles in alike.values():
        part = "" if len(alike) == 1 else ", ".join(roles)
        for number, place in zip(numbers, inside, strict=True):
            found += _values(recipe, recipe.group_of(roles[0], number), part, place)
    found += _by_names(recipe, numbers, inside)
    for role, place in _OUTER.items():
        group = recipe.group_of(role, None)
        if role != "other" or _said(recipe, group) != _said(recipe, recipe.group_of("norm", None)):
            found += _values(recipe, group, "", place)
    return found


def _by_names(recipe: Recipe, numbers: Sequence[int | None], inside: Sequence[str]) -> Iterator[Coefficient]:
    """Yield what groups say that choose tensors by parts of their names, each part on its own."""
    for name in dict.fromkeys(name for group in recipe.groups for name in group.tensors or ()):
        for number, place in zip(numbers, inside, strict=True):
            for role in ROLES:
                group = recipe.group_of(role, number, name)
                if group is not None and group.tensors is not None:
                    yield from _values(recipe, group, name, place)
                    break


def _said(recipe: Recipe, group: Group | None) -> tuple[object, ...]:
    values = recipe.parameters_in(group)
    return recipe.method_of(group), tuple(
        (name, tuple(value.items()) if isinstance(value, Mapping) else value) for name, value in sorted(values.items())
    )


def _values(recipe: Recipe, group: Group | None, part: str, place: str) -> Iterator[Coefficient]:
    method, label = recipe.method_of(group), "" if group is None else group.name
    values = recipe.parameters_in(group)
    words = ", ".join(
        f"{name}: {value_word(value)}" for name, value in values.items() if isinstance(value, (bool, str))
    )
    for name, value in values.items():
        if isinstance(value, Mapping):
            for parent, number in value.items():
                yield Coefficient(name, parent, part, place, number, method, label, words)
        elif isinstance(value, float):
            yield Coefficient(name, "", part, place, value, method, label, words)
