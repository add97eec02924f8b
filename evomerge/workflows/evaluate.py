"""Scoring one model, recipe or run's best on tasks, outside of a search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evomerge.assembly.workers import find_device, include_paths, make_harness, running_dtype
from evomerge.config.reader import from_data
from evomerge.config.schema import EvaluationConfig, ExecutionConfig
from evomerge.errors import ConfigError, RunError
from evomerge.evaluation.catalog import TaskCatalog, filter_names
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.index import load
from evomerge.evaluation.intervals import mean_score
from evomerge.evaluation.measures.registry import MEASURES
from evomerge.evaluation.metrics import declared_metrics
from evomerge.evaluation.task import SplitSizes, TaskSpec
from evomerge.merge.live.models import LiveModels
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Score, Split
from evomerge.store.run_dir import DATABASE, RunDir


def evaluate(
    target: str | Path | Recipe,
    *,
    tasks: Sequence[str],
    include_path: Sequence[str],
    limit: int | None,
    seed: int,
    batch_size: int | None,
    device: str | None,
    dtype: str | None,
) -> dict[str, dict[str, Score]]:
    """Score a model; see `evomerge.api.evaluate`."""
    batch_size = EvaluationConfig.default("batch_size") if batch_size is None else batch_size
    device = ExecutionConfig.default("device") if device is None else device
    recipe, harness, split = _what_to_score(target, tasks, include_path, limit, seed, batch_size)
    chosen = [find_device(one) for one in device.split(",")]
    live = LiveModels(dtype=running_dtype(dtype, chosen[0]), device=chosen)
    live.write(recipe)
    return _means(harness.score(live.model, live.tokenizer, split))


def _what_to_score(
    target: str | Path | Recipe,
    tasks: Sequence[str],
    include_path: Sequence[str],
    limit: int | None,
    seed: int,
    batch_size: int,
) -> tuple[Recipe, LmHarness, Split]:
    """Return the recipe to build, the tasks, and the split that holds the items."""
    path = None if isinstance(target, Recipe) else Path(target)
    if path is not None and (path / DATABASE).is_file():
        with RunDir.open(path) as run:
            recipe, config = run.best(), from_data(run.config)
            recorded = {"seed": config.seed, "tasks": run.database.splits()}
        if recipe is None:
            raise RunError(f"the run {path} has no best merge yet; continue it with `evomerge resume {path}`")
        if not tasks:
            harness = make_harness(config, recorded_splits=recorded, batch_size=batch_size)
            return recipe, harness, Split.TEST
    else:
        recipe = _as_recipe(target)
    if not tasks:
        raise ConfigError("name at least one task to score the model on, for example --task gsm8k")
    sizes = SplitSizes(search=limit, validation=0, test=0)
    paths = include_paths(list(include_path))
    specs = [_any_spec(task, paths) for task in tasks]
    harness = LmHarness(
        specs, sizes=sizes, seed=seed, include_path=paths, batch_size=batch_size, measures=MEASURES.names
    )
    return recipe, harness, Split.SEARCH


def _any_spec(task: str, include_path: Sequence[Path]) -> TaskSpec:
    """Return a spec of a task with its first metric and filter, since all of them are reported anyway.

    Args:
        task: the task's name; for a task written in Python, whose metrics no file lists, "name:metric".
        include_path: folders with task YAML files.
    """
    name, _, metric = task.partition(":")
    entry = TaskCatalog(include_path).find(name)
    if entry is None or entry.kind != "task" or entry.path is None or metric:
        return TaskSpec(name, metric or "acc", direction="maximize")  # the harness says what is wrong
    task_config = load(entry.path)
    declared = declared_metrics(task_config, task_config.get("output_type", "generate_until"))
    usable = [key for key, one in declared.items() if one.per_item is not False] or ["acc"]
    return TaskSpec(name, usable[0], filter=filter_names(task_config)[0], direction="maximize")


def _as_recipe(target: str | Path | Recipe) -> Recipe:
    if isinstance(target, Recipe):
        return target
    if Path(target).suffix in (".yaml", ".yml"):
        return Recipe.load(target)
    return Recipe("linear", (Parent("model", ModelSource(str(target))),))


def _means(scores: Sequence[ItemScore]) -> dict[str, dict[str, Score]]:
    values: dict[str, dict[str, list[float]]] = {}
    for item in scores:
        for metric, value in item.metrics.items():
            if metric.startswith("_"):  # no metric, but a note for the objective
                continue
            values.setdefault(item.task, {}).setdefault(metric, []).append(value)
    return {task: {metric: mean_score(found) for metric, found in metrics.items()} for task, metrics in values.items()}
