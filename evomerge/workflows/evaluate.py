"""Scoring one model, recipe or run's best on tasks, outside of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from evomerge.analysis.skills import Skills
from evomerge.analysis.verdict import objective_of
from evomerge.assembly.hub_models import bring_models
from evomerge.assembly.hub_pins import pin_recipe
from evomerge.assembly.warm_up import Settled, settle_threads, settled_of
from evomerge.assembly.workers import (
    find_device,
    include_paths,
    make_harness,
    own_threads,
    running_dtype,
)
from evomerge.config.reader import from_data
from evomerge.config.schema import EvaluationConfig, ExecutionConfig
from evomerge.errors import ConfigError
from evomerge.evaluation import unsafe_code
from evomerge.evaluation.catalog import TaskCatalog
from evomerge.evaluation.chat import Chat
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.intervals import mean_score
from evomerge.evaluation.item_values import metric_key
from evomerge.evaluation.measures.registry import MEASURES
from evomerge.evaluation.samples import samples_folder, write_samples
from evomerge.evaluation.task import SplitSizes, TaskSpec
from evomerge.interop import load_recipe
from evomerge.merge.live.models import LiveModels
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemAnswer, ItemScore, Score, Split
from evomerge.store.run_dir import DATABASE, RunDir
from evomerge.workflows import Note, tell
from evomerge.workflows.asking import Asking, check_asking
from evomerge.workflows.same_models import best_to_build


@dataclass(frozen=True)
class RunEvaluation:
    """A run's best merge, scored again on the run's test items, beside what the run has of the others.

    Attributes:
        scores: task to metric to score, as `evomerge.api.evaluate` returns it.
        status: the merge (`best`) and the `baselines`, each with `tasks`, and `skills`: the merge against the best
            parent of each task, item by item (see `evomerge.analysis.skills`); as in the status of a run.
        metrics: task to the key of its own metric in `scores`, by which it is compared.
    """

    scores: Mapping[str, Mapping[str, Score]]
    status: Mapping[str, Any]
    metrics: Mapping[str, str]

    def to_data(self) -> dict[str, Any]:
        """Return `scores` as JSON data; the score of a task's own metric has `baselines` and `against_best_parent`."""
        data: dict[str, Any] = {
            task: {name: score.to_data() for name, score in found.items()} for task, found in self.scores.items()
        }
        for one in self.status["skills"]:
            task = one["task"]
            own = data.get(task, {}).get(self.metrics.get(task, ""))
            if own is not None:
                own["baselines"] = {row["name"]: row["tasks"][task]["test"] for row in self.status["baselines"]}
                own["against_best_parent"] = {k: v for k, v in one.items() if k not in ("task", "metric")}
        return data


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
    asking: Asking,
    note: Note | None,
    log_samples: str | Path | None = None,
) -> dict[str, dict[str, Score]]:
    """Score a model; see `evomerge.api.evaluate`."""
    batch_size = EvaluationConfig.default("batch_size") if batch_size is None else batch_size
    asked = _what_to_score(target, tasks, include_path, limit, seed, batch_size, allow_unsafe_code, asking)
    return _scored(asked, device, dtype, note, _log_folder(log_samples, target))[1]


def evaluate_run(
    run_dir: str | Path,
    *,
    batch_size: int | None,
    device: str | None,
    dtype: str | None,
    allow_unsafe_code: bool | None,
    note: Note | None,
    log_samples: str | Path | None = None,
) -> RunEvaluation:
    """Score a run's best merge; see `evomerge.api.evaluate_run`."""
    batch_size = EvaluationConfig.default("batch_size") if batch_size is None else batch_size
    asked = _what_to_score(run_dir, (), (), None, 0, batch_size, allow_unsafe_code, Asking())
    items, scores = _scored(asked, device, dtype, note, _log_folder(log_samples, run_dir))
    with RunDir.open(run_dir) as run, run.database.snapshot():
        objectives = objective_of(run)
        if objectives is None:
            return RunEvaluation(scores, {"best": {"tasks": {}}, "baselines": [], "skills": []}, {})
        skills = Skills(run, objectives)
        baselines = [
            {"name": name, "parent": record in skills.parents, "tasks": skills.tasks(record)}
            for name, record in skills.baselines.items()
        ]
        compared = skills.compared_anew(items)
    known: dict[str, str] = {}
    for one in items:  # the first may not be judged
        spec = skills.entries.get(one.task)
        key = None if spec is None else metric_key(spec.metric, spec.filter, one.metrics)
        if key is not None:
            known.setdefault(one.task, key)
    own = {task: scores.get(task, {}).get(known.get(task, "")) for task in skills.entries}
    tasks = {task: {"test": None if score is None else score.to_data()} for task, score in own.items()}
    return RunEvaluation(scores, {"best": {"tasks": tasks}, "baselines": baselines, "skills": compared}, known)


@own_threads()
def _scored(
    asked: _Asked, device: str | None, dtype: str | None, note: Note | None, log_folder: Path | None
) -> tuple[Sequence[ItemScore], dict[str, dict[str, Score]]]:
    """Return the item scores of a recipe, and task to metric to score; write sample logs into a folder, if one came."""
    harness, sources, recipe = asked.harness, Sources(), pin_recipe(asked.recipe, note)
    if harness.allows_unsafe_code:
        tell([unsafe_code.warning(harness.code_tasks)], note)
    tell(check_asking(harness, asked.chat, recipe, asked.who, sources), note)
    sources.check_tokens(recipe)
    bring_models(sources, note)
    device = ExecutionConfig.default("device") if device is None else device
    chosen = [find_device(one) for one in device.split(",")]
    live = LiveModels(dtype=running_dtype(dtype, chosen[0]), device=chosen, sources=sources)
    live.write(recipe)
    n_items = sum(map(len, harness.split_items(asked.split).values()))
    how: dict[str, Any] = {"items": n_items, "batch_size": asked.batch_size, "engine": asked.engine}
    settle_threads(live, harness, asked.threads, **how, before=asked.settled)
    texts: list[ItemAnswer] | None = None if log_folder is None else []
    items, totals = harness.evaluate(live.model, live.tokenizer, asked.split, texts)
    if texts is not None and log_folder is not None:
        prompts = {(one.task, one.item): one for one in harness.prompts(asked.split, live.tokenizer)}
        write_samples(log_folder, texts, prompts, now=datetime.now(), sources=harness.sources(asked.split))
    means = _means(items)
    return items, {task: {**means.get(task, {}), **totals.get(task, {})} for task in {**means, **totals}}


def _log_folder(folder: str | Path | None, target: str | Path | Recipe) -> Path | None:
    """Return the folder of a model's sample logs, named as lm-eval does after what was named."""
    if folder is None:
        return None
    named = f"recipe {target.content_hash[:12]}" if isinstance(target, Recipe) else str(target)
    return samples_folder(folder, named)


@dataclass(frozen=True)
class _Asked:
    """What is scored, and how.

    Attributes:
        who: what a sentence calls the model.
        recipe: of the model.
        harness: the tasks.
        split: the split that holds the items.
        chat: how the model is asked.
        batch_size: most rows of a pass.
        engine: the name of what runs the model.
        threads: how many threads a run's configuration names; None: it names none.
        settled: what the run settled about threads; None: it is no run.
    """

    who: str
    recipe: Recipe
    harness: LmHarness
    split: Split
    chat: Chat
    batch_size: int
    engine: str
    threads: int | None = None
    settled: Settled | None = None


def _what_to_score(
    target: str | Path | Recipe,
    tasks: Sequence[str],
    include_path: Sequence[str],
    limit: int | None,
    seed: int,
    batch_size: int,
    allow_unsafe_code: bool | None,
    asking: Asking,
) -> _Asked:
    path = None if isinstance(target, Recipe) else Path(target)
    who = "the model" if path is None else str(target)
    own = Chat()
    entries: dict[str, TaskSpec] = {}
    if path is not None and (path / DATABASE).is_file():
        with RunDir.open(path) as run:
            data = run.config
            if allow_unsafe_code is not None:
                data = {**data, "evaluation": {**data["evaluation"], "allow_unsafe_code": allow_unsafe_code}}
            config = from_data(data)
            recipe = best_to_build(run, "these would be the scores of another merge")
            recorded, settled = {"seed": config.seed, "tasks": run.database.splits()}, settled_of(run.database)
        own = config.evaluation.chat
        entries = {spec.name: spec for spec in config.evaluation.tasks}
        if not tasks:
            chat = asking.chat(own)
            changed = {"chat": chat, "tasks": tuple(map(asking.of, config.evaluation.tasks))}
            config = replace(config, evaluation=config.evaluation.model_copy(update=changed))
            harness = make_harness(
                config, recorded_splits=recorded, batch_size=batch_size, where_they_fit=asking.changes_tasks
            )
            engine, threads = config.evaluation.engine, config.execution.threads
            return _Asked(who, recipe, harness, Split.TEST, chat, batch_size, engine, threads, settled)
    else:
        recipe = _as_recipe(target)
    if not tasks:
        raise ConfigError("name at least one task to score the model on, for example --task gsm8k")
    chat = asking.chat(own)
    sizes = SplitSizes(search=limit, validation=0, test=0)
    paths = include_paths(list(include_path))
    catalog = TaskCatalog(paths)
    names = dict.fromkeys(_task_name(task, catalog) for task in tasks)
    harness = LmHarness(
        [asking.of(_entry(name, entries.get(name))) for name in names],
        sizes=sizes,
        seed=seed,
        include_path=paths,
        batch_size=batch_size,
        chat=chat,
        allow_unsafe_code=bool(allow_unsafe_code),
        measures=MEASURES.names,
        every_metric=True,
        where_they_fit=True,
    )
    return _Asked(who, recipe, harness, Split.SEARCH, chat, batch_size, EvaluationConfig.default("engine"))


def _entry(name: str, own: TaskSpec | None) -> TaskSpec:
    """Return an entry for a task, asked as a run asks it; it names no metric, since all are reported."""
    settings = {} if own is None else {"num_fewshot": own.num_fewshot, "generation": own.generation}
    return TaskSpec(name, "", direction="maximize", **settings)  # type: ignore[arg-type]


def _task_name(task: str, catalog: TaskCatalog) -> str:
    """Return the name of a task, which may come with the name of a metric ("name:metric") although all are reported."""
    name, colon, _ = task.partition(":")
    return name if colon and catalog.find(task) is None else task


def _as_recipe(target: str | Path | Recipe) -> Recipe:
    if isinstance(target, Recipe):
        return target
    if Path(target).suffix in (".yaml", ".yml"):
        return load_recipe(target)
    return Recipe("linear", (Parent("model", ModelSource.from_text(str(target))),))


def _means(scores: Sequence[ItemScore]) -> dict[str, dict[str, Score]]:
    values: dict[str, dict[str, list[float]]] = {}
    for item in scores:
        for metric, value in item.metrics.items():
            if metric.startswith("_"):  # no metric, but a note for the objective
                continue
            values.setdefault(item.task, {}).setdefault(metric, []).append(value)
    return {task: {metric: mean_score(found) for metric, found in metrics.items()} for task, metrics in values.items()}
