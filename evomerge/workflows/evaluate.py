"""Scoring one model, recipe or run's best on tasks, outside of a search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evomerge.assembly.workers import find_device, include_paths, make_harness, running_dtype
from evomerge.config.reader import from_data
from evomerge.config.schema import EvaluationConfig, ExecutionConfig
from evomerge.errors import ConfigError
from evomerge.evaluation import unsafe_code
from evomerge.evaluation.catalog import TaskCatalog
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.intervals import mean_score
from evomerge.evaluation.measures.registry import MEASURES
from evomerge.evaluation.task import SplitSizes, TaskSpec
from evomerge.merge.live.models import LiveModels
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Score, Split
from evomerge.store.run_dir import DATABASE, RunDir
from evomerge.workflows import Note, tell
from evomerge.workflows.same_models import best_to_build


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
    allow_unsafe_code: bool | None,
    note: Note | None,
) -> dict[str, dict[str, Score]]:
    """Score a model; see `evomerge.api.evaluate`."""
    batch_size = EvaluationConfig.default("batch_size") if batch_size is None else batch_size
    device = ExecutionConfig.default("device") if device is None else device
    recipe, harness, split = _what_to_score(target, tasks, include_path, limit, seed, batch_size, allow_unsafe_code)
    if harness.allows_unsafe_code:
        tell([unsafe_code.warning(harness.code_tasks)], note)
    chosen = [find_device(one) for one in device.split(",")]
    live = LiveModels(dtype=running_dtype(dtype, chosen[0]), device=chosen)
    live.write(recipe)
    scores, totals = harness.evaluate(live.model, live.tokenizer, split)
    means = _means(scores)
    return {task: {**means.get(task, {}), **totals.get(task, {})} for task in {**means, **totals}}


def _what_to_score(
    target: str | Path | Recipe,
    tasks: Sequence[str],
    include_path: Sequence[str],
    limit: int | None,
    seed: int,
    batch_size: int,
    allow_unsafe_code: bool | None,
) -> tuple[Recipe, LmHarness, Split]:
    """Return the recipe to build, the tasks, and the split that holds the items."""
    path = None if isinstance(target, Recipe) else Path(target)
    if path is not None and (path / DATABASE).is_file():
        with RunDir.open(path) as run:
            data = run.config
            if allow_unsafe_code is not None:
                data = {**data, "evaluation": {**data["evaluation"], "allow_unsafe_code": allow_unsafe_code}}
            config = from_data(data)
            recipe = best_to_build(run, "these would be the scores of another merge")
            recorded = {"seed": config.seed, "tasks": run.database.splits()}
        if not tasks:
            harness = make_harness(config, recorded_splits=recorded, batch_size=batch_size)
            return recipe, harness, Split.TEST
    else:
        recipe = _as_recipe(target)
    if not tasks:
        raise ConfigError("name at least one task to score the model on, for example --task gsm8k")
    sizes = SplitSizes(search=limit, validation=0, test=0)
    paths = include_paths(list(include_path))
    catalog = TaskCatalog(paths)
    # All metrics are reported, so the entries name none.
    specs = [TaskSpec(_task_name(task, catalog), "", direction="maximize") for task in dict.fromkeys(tasks)]
    harness = LmHarness(
        specs,
        sizes=sizes,
        seed=seed,
        include_path=paths,
        batch_size=batch_size,
        allow_unsafe_code=bool(allow_unsafe_code),
        measures=MEASURES.names,
        every_metric=True,
    )
    return recipe, harness, Split.SEARCH


def _task_name(task: str, catalog: TaskCatalog) -> str:
    """Return the name of a task, which may come with the name of a metric ("name:metric") although all are reported."""
    name, colon, _ = task.partition(":")
    return name if colon and catalog.find(task) is None else task


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
