"""A recipe to a Hugging Face folder that appears whole or not at all."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evomerge.errors import ExportError
from evomerge.recipe import Recipe
from evomerge.store.files import sync_folder


def export_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    card: str | None = None,
    extra_files: Mapping[str, str] | None = None,
    shard_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Build a recipe's model and write it with its card.

    Everything is written into a hidden folder beside `out`, which is renamed at the end.

    Args:
        out: must not exist, or be an empty folder.
        card: the text of README.md; None: no card.
        extra_files: further text files by name.
        shard_size: bytes of the largest weight file; None: the default of `merge_to_disk`.
        progress: called with (steps done, steps in all).

    Returns:
        `out`, with safetensors, config, tokenizer, recipe.yaml and README.md.

    Raises:
        ExportError: if `out` is in use or cannot be written; nothing is left behind then.
        CheckpointError: if a parent is missing or does not fit the others.
        RecipeError: if the recipe's method refuses its parameters.
    """
    from evomerge.merge.disk import merge_to_disk

    out = Path(out).expanduser()
    refuse_used(out)
    options: dict[str, Any] = {} if shard_size is None else {"shard_size": shard_size}
    aside: Path | None = None
    try:
        target = out.resolve()  # a link to an empty folder is filled, not replaced
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        model = aside / "model"  # its own aside-and-rename then stays inside of ours
        try:
            merge_to_disk(recipe, model, progress=progress, **options)
        except ExportError as error:  # it names the hidden folder, which means nothing to the user
            raise ExportError(str(error).replace(str(model), str(out))) from error
        for name, text in {**(extra_files or {}), **({} if card is None else {"README.md": card})}.items():
            (model / name).write_text(text, encoding="utf-8")
        sync_folder(model)
        refuse_used(out)
        model.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise ExportError(_problem(error, out)) from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    return out


def refuse_used(out: Path) -> None:
    """Check that a folder may be written.

    Raises:
        ExportError: if something is there already.
    """
    if out.is_dir() and any(out.iterdir()):
        raise ExportError(f"{out} holds files already; choose another folder, or remove it first")
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file; choose the name of a new folder")


def _problem(error: OSError, out: Path) -> str:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: the model does not fit beside {out} ({reason}). Make room, or choose another disk"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot write {out}: {reason}. Choose a folder that you may write"
    return f"cannot write {out}: {reason}"
