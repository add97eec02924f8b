"""The recipe with which a search begins (`space.start`): read, and put in the terms of the search's own models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from evomerge.assembly.hub_pins import Pins
from evomerge.config.schema import ModelsConfig, SearchConfig
from evomerge.errors import ConfigError, RecipeError
from evomerge.interop.load import load_recipe
from evomerge.merge.files.hub_listing import cached_commit
from evomerge.merge.files.locate import is_on_hub
from evomerge.recipe import Group, ModelSource, Parent, Recipe, TokenizerBuild, Value
from evomerge.recipe.tokenizer import ModelToken, Tokenizer, TokenRow
from evomerge.store.inputs import moved_recipe


def start_recipe(config: SearchConfig, pins: Pins | None = None) -> Recipe | None:
    """Return the recipe with which a search begins, with the search's names of its models; None: there is none.

    Args:
        config: the configuration.
        pins: the commits that stand in it for branches, which the recipe may name.

    Raises:
        ConfigError: if it cannot be read, or with everything in which it differs from the search's models.
    """
    place = config.stages[0].space.start
    if place is None or config.method is None:
        return None
    try:
        recipe = load_recipe(Path(place).expanduser())
    except RecipeError as error:
        raise ConfigError(f"`space.start`: {error}") from error
    if recipe.path:
        raise ConfigError(f"`space.start`: {place} is a layer path, but a search begins with a merge of weights")
    names, problems = _match(moved_recipe(recipe, pins or {}), config.models, pins or {})
    if not problems:
        recipe = _renamed(recipe, names, config.models)
        problems = _lender_problems(recipe, config.models)
    if problems:
        raise ConfigError([f"`space.start`: {problem}" for problem in problems])
    return recipe


def _match(recipe: Recipe, models: ModelsConfig, pins: Pins) -> tuple[dict[str, str], list[str]]:
    """Return the search's name of each parent of a recipe, and why the models are not the same."""
    left = list(models.parents)
    names: dict[str, str] = {}
    problems = []
    for parent in recipe.parents:
        found = next((one for one in left if _same(one.source, parent.source, pins)), None)
        if found is None:
            problems.append(f"its parent {parent.name} ({_place(parent)}) is none of `models.parents`")
        else:
            left.remove(found)
            names[parent.name] = found.name
    problems += [f"`models.parents.{one.name}` ({_place(one)}) is no parent of it" for one in left]
    if not problems and list(names.values()) != [one.name for one in models.parents]:
        order = ", ".join(names.values())
        problems.append(f"its parents come in the order {order}; list `models.parents` in that order")
    theirs, ours = recipe.base, models.base
    if (theirs is None) != (ours is None) or (theirs and ours and not _same(ours.source, theirs.source, pins)):
        its = "it has no base" if theirs is None else f"its base is {_place(theirs)}"
        problems.append(f"{its}, but `models.base` is {'null' if ours is None else _place(ours)}")
    return names, problems


def _lender_problems(recipe: Recipe, models: ModelsConfig) -> list[str]:
    return [
        f"its {key} is {_said(its)}, but `models.{key}` is {_said(ours)}; set one to the other"
        for key in ("dtype", "tokenizer", "generation_config", "chat_template", "vision")
        if (its := getattr(recipe, key)) != (ours := getattr(models, key))
    ]


def _renamed(recipe: Recipe, names: Mapping[str, str], models: ModelsConfig) -> Recipe:
    def values(given: Mapping[str, Value]) -> dict[str, Value]:
        return {
            key: {names[name]: number for name, number in value.items()} if isinstance(value, Mapping) else value
            for key, value in given.items()
        }

    def group(one: Group) -> Group:
        return replace(one, parameters=values(one.parameters))

    def lender(name: str | None) -> str | None:
        return names.get(name, name) if name is not None else None

    def row(one: TokenRow) -> TokenRow:
        if not isinstance(one.source, ModelToken):
            return one
        return replace(one, source=replace(one.source, model=names.get(one.source.model, one.source.model)))

    def tokenizer(one: Tokenizer | None) -> Tokenizer | None:
        if not isinstance(one, TokenizerBuild):
            return lender(one)
        rows = {token: row(its) for token, its in one.tokens.items()}
        return replace(one, source=lender(one.lender) or one.source, tokens=rows)

    return replace(
        recipe,
        parents=models.parents,
        base=models.base,
        parameters=values(recipe.parameters),
        groups=tuple(map(group, recipe.groups)),
        tokenizer=tokenizer(recipe.tokenizer),
        generation_config=lender(recipe.generation_config),
        chat_template=lender(recipe.chat_template),
        vision=lender(recipe.vision),
    )


def _same(ours: ModelSource | Recipe, theirs: ModelSource | Recipe, pins: Pins) -> bool:
    if isinstance(ours, Recipe) or isinstance(theirs, Recipe):
        return ours == theirs
    wanted = _where(ours)
    named = {_where(branch): _where(commit) for branch, commit in pins.items()}
    found = named.get(_where(theirs), _where(theirs))
    return wanted in (found, _as_cached(found))


def _where(source: ModelSource) -> ModelSource:
    """Return where a model is, and nothing else."""
    adapter = None if source.adapter is None else _full(source.adapter)
    return replace(source, path=_full(source.path), adapter=adapter, trust_remote_code=False, allow_pickle=False)


def _as_cached(source: ModelSource) -> ModelSource:
    """Return a source at the commits that the Hub's cache knows its branches as."""
    if is_on_hub(replace(source, adapter=None, adapter_revision=None)):
        source = replace(source, revision=cached_commit(source.path, source.revision) or source.revision)
    if source.adapter is not None and is_on_hub(ModelSource(source.adapter, source.adapter_revision)):
        commit = cached_commit(source.adapter, source.adapter_revision)
        source = replace(source, adapter_revision=commit or source.adapter_revision)
    return source


def _full(path: str) -> str:
    place = Path(path).expanduser()
    return str(place.resolve()) if place.exists() else path


def _place(parent: Parent) -> str:
    source = parent.source
    if isinstance(source, Recipe):
        return "a recipe"
    return source.path if source.revision is None else f"{source.path} at {source.revision}"


def _said(value: object) -> str:
    if isinstance(value, TokenizerBuild):
        value = value.to_data()
    return "null" if value is None else str(value)
