"""What the search of a configuration stands on: computed when a run starts, and again when it is continued."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from evomerge.assembly.workers import find_device, running_dtype
from evomerge.config.canonical import canonical, deciding, shown
from evomerge.config.names import REGISTRIES
from evomerge.config.schema import ExecutionConfig, SearchConfig
from evomerge.errors import CheckpointError, ConfigError, RecipeError
from evomerge.evaluation.measures.python_function import load_function
from evomerge.evaluation.task import PYTHON
from evomerge.merge.adapters.contents import locate_both, model_contents
from evomerge.merge.files.weights import weight_files
from evomerge.recipe import DTYPES, ModelSource, Recipe
from evomerge.store.changes import called, model_changes
from evomerge.store.inputs import ModelContents, RunInputs, moved_recipe
from evomerge.system.contents import Content, content_of, digest_of
from evomerge.system.memory import GIB
from evomerge.system.source_files import source_files

DTYPE = "execution.dtype"
"""The key that counts by its effect: what null stands for depends on the device."""

OWN_DTYPE, CLUSTERS_DTYPE = "each model's own", "what the cluster's devices choose"

WORTH_SAYING = GIB // 2
"""Bytes of weights from which reading them all takes long enough to be said."""


@dataclass
class FoundInputs:
    """What a configuration stands on, as far as it could be found.

    Attributes:
        inputs: without items, which the prepared tasks know (`LmHarness.contents`).
        values: the value of each key, for people: references as text.
        problems: one sentence for each model or file that cannot be read.
    """

    inputs: RunInputs
    values: Mapping[str, Any]
    problems: list[str] = field(default_factory=list)


def find_inputs(
    data: Mapping[str, Any],
    config: SearchConfig,
    *,
    known: Mapping[str, ModelContents] | None = None,
    note: Callable[[str], None] | None = None,
) -> FoundInputs:
    """Return what a configuration stands on; every byte of the weights counts.

    Args:
        data: the composed configuration.
        config: the same, read.
        known: the contents of models when they were read last, by name; files that are still the same are not read.
        note: called with a sentence where this takes a while.
    """
    values = deciding(data)
    values[DTYPE] = _effective_dtype(config.execution)
    problems: list[str] = []
    models = _models(config, known or {}, note, problems)
    inputs = RunInputs(
        keys={name: digest_of(value) for name, value in values.items()},
        models=models,
        recipes={parent.name: _recipe_digest(parent.source) for parent in config.models.parents
                 if isinstance(parent.source, Recipe)},
        files=dict(_files(config, problems)),
    )  # fmt: skip
    return FoundInputs(inputs, {**shown(data), DTYPE: values[DTYPE]}, problems)


def values_then(data: Mapping[str, Any], inputs: RunInputs) -> dict[str, Any]:
    """Return the values of keys when inputs were recorded, as far as they are known.

    Args:
        data: the configuration then. A reference may have had another value, of which only the hash is known.
        inputs: what was recorded.
    """
    known = {name for name, value in canonical(data).items() if inputs.keys.get(name) == digest_of(value)}
    values = {name: value for name, value in shown(data).items() if name in known}
    dtypes = {digest_of(name): name for name in (*DTYPES, OWN_DTYPE, CLUSTERS_DTYPE)}
    return {**values, DTYPE: dtypes.get(inputs.keys.get(DTYPE, ""), "another one")}


def changed_models(inputs: RunInputs, recipes: Iterable[Recipe]) -> list[str]:
    """Return one sentence for each model of a run's recipes that is another one than when the run began.

    A model that cannot be read is left to whoever needs it.
    """
    used = {source for recipe in recipes for source in recipe.checkpoints()}
    then = {name: model for name, model in inputs.models.items() if model.source in used}
    now: dict[str, ModelContents] = {}
    for name, model in then.items():
        try:
            files = model_contents(model.source, model.known)
        except CheckpointError:
            files = dict(model.files)
        now[name] = replace(model, files=files)
    return model_changes(RunInputs({}, then), RunInputs({}, now))


def recipe_contents(recipes: Iterable[Recipe]) -> list[list[dict[str, str]]]:
    """Return for each recipe the hashes of the files of its models, in order.

    Raises:
        CheckpointError: if a model cannot be read.
    """
    read: dict[ModelSource, dict[str, str]] = {}
    for source in dict.fromkeys(one for recipe in recipes for one in recipe.checkpoints()):
        read[source] = {name: content.digest for name, (_, content) in model_contents(source, {}).items()}
    return [[read[source] for source in recipe.checkpoints()] for recipe in recipes]


def checkpoints(config: SearchConfig) -> dict[str, ModelSource]:
    """Return every checkpoint that a search reads, those below parents that are recipes included, by name."""
    found: dict[str, ModelSource] = {}

    def visit(name: str, source: ModelSource | Recipe) -> None:
        if isinstance(source, ModelSource):
            found[name] = source
            return
        for parent in source.members:
            visit(f"{name}.{parent.name}", parent.source)

    models = config.models
    for parent in models.members:
        visit(parent.name, parent.source)
    return found


def _models(
    config: SearchConfig,
    known: Mapping[str, ModelContents],
    note: Callable[[str], None] | None,
    problems: list[str],
) -> dict[str, ModelContents]:
    folders: dict[str, tuple[Path, Path | None]] = {}
    unread: dict[Path, int] = {}
    for name, source in checkpoints(config).items():
        try:
            folders[name] = locate_both(source)
            unread |= _unread_weights(folders[name][0], known[name].known if name in known else {})
        except (CheckpointError, OSError) as error:
            then = Path(known[name].folder) if name in known else None
            there = then is not None and then.is_dir() and not Path(source.path).is_absolute()
            hint = f"; it was {then} when the run began, so continue it from there, or name that" if there else ""
            problems.append(f"{called(name)}: {error}{hint}")
            folders.pop(name, None)
    if note is not None and sum(unread.values()) >= WORTH_SAYING:
        note(f"reading every byte of the models once, to know them again ({sum(unread.values()) / GIB:.1f} GiB)")
    found: dict[str, ModelContents] = {}
    read: dict[tuple[Path, Path | None], dict[str, tuple[str, Content]]] = {}  # two names may stand for one folder
    for name, source in checkpoints(config).items():
        place = folders.get(name)
        if place is None:
            if name in known:  # a problem says enough
                found[name] = replace(known[name], source=source)
            continue
        try:
            if place not in read:
                before = known[name].known if name in known else {}
                read[place] = model_contents(source, before)
        except CheckpointError as error:
            problems.append(f"{called(name)}: {error}")
            continue
        found[name] = ModelContents(source, str((place[1] or place[0]).absolute()), read[place])
    return found


def _unread_weights(folder: Path, known: Mapping[str, Content]) -> dict[Path, int]:
    """Return the weight files that must be read, with their sizes in bytes."""
    found = {path: path.stat() for path in weight_files(folder)}
    return {
        path: stat.st_size
        for path, stat in found.items()
        if path.name not in known or stat.st_ctime_ns not in known[path.name].signature
    }


def _recipe_digest(recipe: Recipe) -> str:
    """Return a hash of a recipe, without the places of its models, whose contents are compared."""
    return moved_recipe(recipe, dict.fromkeys(recipe.checkpoints(), ModelSource(""))).content_hash


def _files(config: SearchConfig, problems: list[str]) -> Iterator[tuple[str, str]]:
    """Yield what each other file is and the hash of its content: the user's own code, and answers of other models."""
    for what, module in _own_code(config, problems):
        for place, path in source_files([module]).items():
            yield f"the file {place} of {what}", content_of(path).digest
    start = config.stages[0].space.start
    if start is not None and config.merges:
        path = Path(start).expanduser()
        try:
            yield "space.start", content_of(path).digest
        except OSError as error:
            problems.append(f"space.start: cannot read {path}: {error.strerror or error}")
    if config.fitness.responses is not None:
        path = Path(config.fitness.responses).expanduser()
        try:
            inside = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
            contents = {str(one.relative_to(path)): content_of(one).digest for one in inside}
            yield "fitness.responses", digest_of(contents)
        except OSError as error:
            problems.append(f"fitness.responses: cannot read {path}: {error.strerror or error}")


def _own_code(config: SearchConfig, problems: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield each module of the user's, or of a package that adds something, with what it is for."""
    names = {
        "methods": [*config.methods, *_inner_methods(config)],
        "optimizers": [stage.optimizer.name for stage in config.stages],
        "strategies": [stage.strategy.name for stage in config.stages],
        "estimators": [config.fitness.estimator],
        "engines": [config.evaluation.engine],
    }
    for kind, used in names.items():
        registry = REGISTRIES[kind]()
        for name in dict.fromkeys(used):
            if name.startswith("nevergrad:"):
                continue
            module = _tried(lambda registry=registry, name=name: registry.module(name), problems)  # type: ignore[misc]
            if module is not None:
                yield f"{registry.kind} {Path(name).name}", module
    for metric in dict.fromkeys(spec.metric for spec in config.evaluation.tasks):
        if metric.startswith(PYTHON):
            function = _tried(lambda metric=metric: load_function(metric), problems)  # type: ignore[misc]
            if function is not None:
                yield f"metric {Path(metric.removeprefix(PYTHON)).name}", function


def _inner_methods(config: SearchConfig) -> Iterator[str]:
    """Yield the merge methods of parents that are recipes."""
    waiting: list[ModelSource | Recipe] = [parent.source for parent in config.models.parents]
    while waiting:
        source = waiting.pop()
        if isinstance(source, Recipe):
            yield from source.methods
            waiting += [parent.source for parent in source.members]


def _tried(step: Callable[[], Any], problems: list[str]) -> ModuleType | Any:
    try:
        return step()
    except (ConfigError, RecipeError) as error:
        problems += getattr(error, "problems", [str(error)])
        return None


def _effective_dtype(execution: ExecutionConfig) -> str:
    """Return in which type candidates run, whoever runs them."""
    if execution.dtype is None and execution.name == "ray":
        if execution.gpus_per_worker == 0:
            return "float32"
        if execution.address is not None:
            return CLUSTERS_DTYPE
    device = find_device(execution.device.split(",")[0])
    return running_dtype(execution.dtype, device) or OWN_DTYPE
