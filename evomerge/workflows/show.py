"""Drawing the layer path of a recipe or of a run's best merge."""

from __future__ import annotations

from pathlib import Path

from evomerge.errors import RecipeError, RunError
from evomerge.interop import load_recipe
from evomerge.recipe import Recipe
from evomerge.record import Split
from evomerge.report import Shown, path_text
from evomerge.store.run_dir import RunDir


def show(target: str | Path | Recipe, *, candidate: int | None, out: str | Path | None) -> Shown:
    """Draw the layer path of a recipe, or of a run's best merge; see `evomerge.api.show`."""
    recipe, title, folder = _what_to_show(target, candidate)
    if not recipe.path:
        of = "the recipe" if title is None else title.split(":")[0]
        raise RecipeError(
            f"{of} has no layer path to draw: it mixes weights by the method{'s' * (len(recipe.methods) > 1)} "
            f"{', '.join(recipe.methods)}. A path comes from "
            "`method: passthrough` with a `path`, as the searches of the data-flow space find"
        )
    from evomerge.report.path_figure import save_path_figure

    stem = folder / "path" if out is None else Path(out).expanduser()
    stem = stem.with_suffix("") if stem.suffix in (".svg", ".png") else stem
    svg, png = save_path_figure(recipe, stem, title=title)
    return Shown(path_text(recipe.path), svg, png)


def _what_to_show(target: str | Path | Recipe, number: int | None) -> tuple[Recipe, str | None, Path]:
    """Return a recipe, the title of its picture, and the folder to which it belongs."""
    path = Path() if isinstance(target, Recipe) else Path(target).expanduser()
    if not isinstance(target, Recipe) and path.is_dir() and not (path / "recipe.yaml").is_file():
        from evomerge.analysis.verdict import objective_of
        from evomerge.export.from_run import chosen_record
        from evomerge.report.numbers import style_of

        with RunDir.open(path, mend=False) as run:
            record, name = chosen_record(run, number), str(run.config.get("name", path.name))
            style = style_of(objective_of(run), run.database.records(baselines=True))
        split = next((split for split in reversed(Split) if split in (record.scores or {})), None)
        score = "" if split is None else f": {style.score((record.scores or {})[split])} on {split} items"
        return record.recipe, f"{name}, {record.name}{score}", path
    if number is not None:
        raise RunError(
            f"{'a recipe' if path == Path() else path} has no candidate {number}, only a run has; leave it out"
        )
    if isinstance(target, Recipe):
        return target, None, path
    file = path / "recipe.yaml" if path.is_dir() else path
    return load_recipe(file), None, file.parent
