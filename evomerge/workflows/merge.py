"""Building the model of a recipe on disk."""

from __future__ import annotations

from pathlib import Path

from evomerge.interop import load_recipe
from evomerge.merge.disk.folder import SHARD_BYTES, merge_to_disk
from evomerge.recipe import Recipe
from evomerge.workflows import Progress


def merge(recipe: Recipe | str | Path, out: str | Path, *, shard_size: int | None, progress: Progress | None) -> Path:
    """Build the model of a recipe (or of a recipe file) as a Hugging Face folder; see `evomerge.api.merge`."""
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    return merge_to_disk(loaded, out, shard_size=shard_size or SHARD_BYTES, progress=progress)
