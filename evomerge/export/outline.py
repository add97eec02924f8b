"""What an export would write, without its weights: names and sizes of files in seconds, for a dry run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evomerge.export.hf_folder import ExportReport, _mergekit, _recipe_text
from evomerge.export.hub import HubFile
from evomerge.export.publishing import refuse_secrets_in_folder
from evomerge.recipe import Recipe

CARD = "README.md"


def outline_recipe(
    recipe: Recipe,
    folder: Path,
    *,
    card: str | Callable[[ExportReport], str] | None = None,
    extra_files: Mapping[str, str] | None = None,
    shard_size: int | None = None,
) -> list[HubFile]:
    """Write what `export_recipe` would, but for the weights, and return all files in order of their names.

    All sizes but the card's are those of the export: there, the card also says how the folder compares with the live
    model. Recipes of common checkpoints need neither torch nor transformers.

    Args:
        recipe: the recipe.
        folder: an empty folder.
        card: as in `export_recipe`; so are `extra_files` and `shard_size`.

    Raises:
        ExportError, CheckpointError, RecipeError: as `export_recipe`, as far as it shows before weights are read.
    """
    from evomerge.merge.disk.folder import outline_on_disk

    options: dict[str, Any] = {} if shard_size is None else {"shard_size": shard_size}
    weights = outline_on_disk(recipe, folder, **options)
    texts = {**_recipe_text(recipe), **_mergekit(recipe, _sources(recipe)), **(extra_files or {})}
    if card is not None:
        known = ExportReport(files=tuple(texts))
        texts[CARD] = card if isinstance(card, str) else card(known)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    written = [path for path in folder.rglob("*") if path.is_file()]
    refuse_secrets_in_folder(folder, sorted(path.name for path in folder.iterdir() if path.is_file()))
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in written} | weights
    return [HubFile(name, sizes[name]) for name in sorted(sizes)]


def _sources(recipe: Recipe) -> Any:
    """Return opened models where the recipe is a path: whether mergekit has a word for it depends on them."""
    if not recipe.path:
        return None
    from evomerge.merge.sources import Sources

    return Sources()
