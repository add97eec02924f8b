"""Building the model of a recipe on disk."""

from __future__ import annotations

from pathlib import Path

from evomerge.assembly.hub_pins import any_on_hub
from evomerge.interop import load_recipe
from evomerge.merge.disk.folder import SHARD_BYTES, merge_to_disk
from evomerge.recipe import Recipe
from evomerge.workflows import Note, Progress


def merge(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    shard_size: int | None,
    progress: Progress | None,
    save_state: str | Path | None,
    continue_from: str | Path | None,
    note: Note | None = None,
) -> Path:
    """Build the model of a recipe (or of a recipe file) as a Hugging Face folder; see `evomerge.api.merge`."""
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    # Models that were merged before need not exist any more. Merges of common local models need no torch.
    if continue_from is None and any_on_hub(loaded.checkpoints()):
        from evomerge.assembly.hub_models import ready

        loaded = ready(loaded, note)
    if save_state is not None or continue_from is not None:
        from evomerge.merge.disk.continual import merge_with_state

        return merge_with_state(
            loaded,
            out,
            save_state=save_state,
            continue_from=continue_from,
            shard_size=shard_size or SHARD_BYTES,
            progress=progress,
        )
    return merge_to_disk(loaded, out, shard_size=shard_size or SHARD_BYTES, progress=progress)
