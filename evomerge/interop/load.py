"""A recipe file of any kind that evomerge reads: its own, or mergekit's. Which one it is, is told by its keys."""

from __future__ import annotations

import logging
from pathlib import Path

from evomerge.errors import RecipeError
from evomerge.interop.mergekit import looks_like_mergekit, read_mergekit
from evomerge.recipe import Recipe
from evomerge.system.files import read_file

log = logging.getLogger(__name__)


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe file, ours or mergekit's; what is left out of one of mergekit's is logged as a warning.

    Raises:
        RecipeError: if the file is missing or not a recipe; the message names the file and every mistake.
    """
    path = Path(path)
    text = read_file(path, "the recipe", RecipeError)
    try:
        if not looks_like_mergekit(text):
            return Recipe.from_yaml(text)
        reading = read_mergekit(text)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
    for note in reading.notes:
        log.warning("%s: %s", path, note)
    return reading.recipe
