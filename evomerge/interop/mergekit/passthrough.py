"""A layer path as the YAML of mergekit's passthrough merge, for `mergekit-yaml FILE DIR`.

With mergekit 0.1.5, such files gave the tensors of `evomerge merge` bit for bit. Each slice copies whole layers. The
embeddings come from the first slice's model, final norm and head from the last slice's. Configuration and tokenizer
come from `base_model`; without it, they come from a model that differs between processes. `dtype` casts every tensor
once; without it, each keeps its own type.

mergekit writes the number of layers into the configuration, but not settings with one entry per layer (Gemma's and
Qwen's `layer_types`). These stay the first parent's, which a recipe does not show.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge.errors import RecipeError
from evomerge.recipe import PASSTHROUGH, ModelSource, Parent, Recipe
from evomerge.recipe.layer_path import runs
from evomerge.system.yaml_text import Inline, write_yaml


def passthrough_problems(recipe: Recipe, *, models: Mapping[str, str | Path] | None = None) -> list[str]:
    """Return why mergekit cannot build a recipe's path, one sentence each; empty where it can.

    Args:
        recipe: the recipe.
        models: parent name to the folder or Hub id that replaces the recipe's own source, for a parent that is a recipe
            (once it is on disk) or a model of the built-in zoo.
    """
    if not recipe.path:
        return [f"only a layer path is a {PASSTHROUGH} merge, and this recipe (method {recipe.method}) has none"]
    problems = [
        f"mergekit's layers have no input scale, but {name} layer {start} has {scale:g}"
        for name, start, _, scale in runs(recipe.path)
        if scale != 1.0
    ]
    first, given = recipe.parents[0].name, models or {}
    start, end = recipe.path[0].parent, recipe.path[-1].parent
    embeddings, head = recipe.embeddings or first, recipe.head or first
    if start != embeddings:
        problems.append(
            f"mergekit takes the embeddings from the first step's model, {start}, instead of {embeddings}; "
            f"`embeddings: {start}` says so"
        )
    if end != head:
        problems.append(
            f"mergekit takes final norm and head from the last step's model, {end}, instead of {head}; `head: {end}` "
            "says so"
        )
    if any(values.get("scale", 1.0) != 1.0 for values in (recipe.parameters, *(g.parameters for g in recipe.groups))):
        problems.append("scales of tensors are not written into this YAML")
    if recipe.tokenizer not in (None, first):
        problems.append(
            f"with the tokenizer of {recipe.tokenizer}, mergekit would sort {first}'s embeddings anew by its tokens"
        )
    for parent in _used(recipe):
        if parent.name in given:
            continue
        if isinstance(parent.source, Recipe):
            problems.append(
                f"{parent.name} is itself a merge: build it with `evomerge merge`, and give the folder that came out"
            )
        elif parent.source.path.startswith("zoo:"):
            problems.append(
                f"{parent.name} is {parent.source.path}, a name that only evomerge knows: give a folder with its files"
            )
    return problems


def passthrough_yaml(
    recipe: Recipe, *, models: Mapping[str, str | Path] | None = None, dtype: str | None = None
) -> str:
    """Return the YAML of mergekit's passthrough merge for a layer path.

    Args:
        recipe: the recipe.
        models: as in `passthrough_problems`.
        dtype: the type of the result if the recipe names none. With the first parent's type, mergekit writes what
            evomerge writes even if the parents differ in it.

    Raises:
        RecipeError: with everything that mergekit cannot express.
    """
    problems = passthrough_problems(recipe, models=models)
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise RecipeError(f"mergekit cannot build this recipe:\n{lines}")
    model = {parent.name: _reference(parent, (models or {}).get(parent.name)) for parent in _used(recipe)}
    data: dict[str, Any] = {
        "slices": [
            {"sources": [{"model": model[parent], "layer_range": Inline([start, stop])}]}
            for parent, start, stop, _ in runs(recipe.path)
        ],
        "merge_method": PASSTHROUGH,
        "base_model": model[recipe.parents[0].name],
    }
    chosen = recipe.dtype or dtype
    if chosen is not None:
        data["dtype"] = chosen
    return _head(recipe) + write_yaml(data)


def _used(recipe: Recipe) -> list[Parent]:
    used = {step.parent for step in recipe.path}
    return [parent for i, parent in enumerate(recipe.parents) if i == 0 or parent.name in used]


def _reference(parent: Parent, given: str | Path | None) -> Any:
    """Return a model as mergekit names it: "path", "path@revision", or a mapping where the path holds an @ or a +."""
    if given is None and isinstance(parent.source, ModelSource):
        path, revision = parent.source.path, parent.source.revision
    else:
        path, revision = str(given), None
    if path.startswith("~"):
        path = str(Path(path).expanduser())  # mergekit would look for the "~" on the Hub
    if "@" in path or "+" in path:
        return {"model": {"path": path} | ({} if revision is None else {"revision": revision})}
    return path if revision is None else f"{path}@{revision}"


def _head(recipe: Recipe) -> str:
    command = "mergekit-yaml FILE DIR"
    sources = [parent.source for parent in _used(recipe)]
    if any(not isinstance(source, Recipe) and source.trust_remote_code for source in sources):
        command += " --trust-remote-code"
    return f"# {command}\n"
