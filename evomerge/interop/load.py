"""A recipe file of any kind that evomerge reads."""

from __future__ import annotations

from pathlib import Path

from evomerge.recipe import Recipe


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe file.

    Raises:
        RecipeError: if the file is missing or not a recipe; the message names the file.
    """
    return Recipe.load(path)
