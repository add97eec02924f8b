"""Mistakes in a recipe: what its groups name but its result does not have, and one error for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.errors import RecipeError
from evomerge.recipe.recipe import Group, Recipe


def group_problems(recipe: Recipe, n_layers: int, names: Sequence[str]) -> list[str]:
    """Return one sentence for each group with layers or parts of names that the result does not have.

    Args:
        recipe: the recipe.
        n_layers: how many layers the result has.
        names: the names of its tensors.
    """
    problems = [
        f"{group_words(i, group)}layers {list(group.layers)} reach beyond the {n_layers} layers of the model"
        for i, group in enumerate(recipe.groups)
        if group.layers is not None and group.layers[1] > n_layers
    ]
    return problems + [
        f"{group_words(i, group)}no tensor's name holds {part!r}; names are like {names[len(names) // 2]}"
        for i, group in enumerate(recipe.groups)
        for part in group.tensors or ()
        if not any(part in name for name in names)
    ]


def group_words(index: int, group: Group) -> str:
    """Return the beginning of a sentence about a group: "groups[2] (early layers): "."""
    return f"groups[{index}]{f' ({group.name})' if group.name else ''}: "


def raise_problems(problems: Sequence[str]) -> None:
    """Raise one error for all mistakes in a recipe, if there are any.

    Raises:
        RecipeError: with each of them.
    """
    if len(problems) == 1:
        raise RecipeError(problems[0])
    if problems:
        raise RecipeError("\n".join([f"{len(problems)} mistakes in the recipe:", *(f"  - {one}" for one in problems)]))
