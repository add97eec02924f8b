"""A recipe of mergekit as one of ours, or one of ours as mergekit's."""

from __future__ import annotations

from pathlib import Path

from evomerge.errors import RecipeError
from evomerge.interop.mergekit import looks_like_mergekit, read_mergekit, write_mergekit
from evomerge.recipe import Recipe
from evomerge.system.files import explain_os_errors, read_file, user_path, write_atomically
from evomerge.system.text import visible


def convert(source: str | Path, out: str | Path | None, *, force: bool) -> str:
    """Translate a recipe file; see `evomerge.api.convert`."""
    target = None if out is None else user_path(out, RecipeError)
    if target is not None and target.exists() and (target.is_dir() or not force):
        instead = "name a file" if target.is_dir() else "name another one, or replace it with --force"
        raise RecipeError(f"{target} is there already; {instead}")
    text = _translated(Path(source))
    if target is not None:
        with explain_os_errors(target, RecipeError):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, text)
    return text


def _translated(source: Path) -> str:
    text = read_file(source, "the recipe", RecipeError)
    try:
        if looks_like_mergekit(text):
            reading = read_mergekit(text)
            return "".join(f"# {visible(note)}\n" for note in reading.notes) + reading.recipe.to_yaml()
        recipe = Recipe.from_yaml(text)
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from error
    written = write_mergekit(recipe)
    if written.problems:
        lines = "\n".join(f"  - {problem}" for problem in written.problems)
        raise RecipeError(f"{source}: mergekit cannot build this recipe:\n{lines}")
    return written.text
