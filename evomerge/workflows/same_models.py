"""Recipes of a run that are built again, from the models that were merged and scored and from no others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from evomerge.assembly.inputs import changed_models
from evomerge.errors import EvomergeError, RunError
from evomerge.interop import load_recipe
from evomerge.recipe import Recipe
from evomerge.store.run_dir import RunDir
from evomerge.system.text import command


def refuse_other_models(
    run: RunDir, recipes: Iterable[Recipe], consequence: str, instead: str, *, error: type[EvomergeError] = RunError
) -> None:
    """Check that the models are those that were merged and scored, before recipes of a run are built again.

    Args:
        run: the run.
        recipes: the recipes.
        consequence: what follows from other models.
        instead: what can be done but putting the models back.
        error: what is raised.

    Raises:
        EvomergeError: if one is another model now.
    """
    changes = [] if run.inputs is None else changed_models(run.inputs, recipes)
    if changes:
        lines = "\n".join(f"  - {change}" for change in changes)
        raise error(
            f"the models are not those that the run {run.path} merged and scored, so {consequence}:\n{lines}\n"
            f"Put them back; or {instead}"
        )


def recipe_of(target: str | Path | Recipe) -> Recipe:
    """Return a recipe, the recipe of a file, or the best one of a run, to build its model.

    Raises:
        RunError: if the run has no best merge yet, or its models are others now.
        RecipeError: if the file is no recipe.
    """
    if isinstance(target, Recipe):
        return target
    if Path(target).is_dir():
        with RunDir.open(target) as run:
            return best_to_build(run, "the model is not the run's")
    return load_recipe(target)


def best_to_build(run: RunDir, consequence: str) -> Recipe:
    """Return the best recipe of a run, whose models are those that were scored.

    Raises:
        RunError: if there is none yet, or its models are others now; `consequence` says what follows from that.
    """
    best = run.best()
    if best is None:
        raise RunError(f"the run {run.path} has no best merge yet; continue it with `{command('resume', run.path)}`")
    refuse_other_models(run, [best], consequence, f"name the recipe {run.best_path}, to use what is there now")
    return best
