"""The Python API: everything that the command line does, with plain arguments and return values.

A configuration is a nested mapping with the keys of `configs/search.yaml`; what is left out has the defaults of
`evomerge.config`. Heavy libraries are imported inside the functions, so `import evomerge` stays light.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.config import SearchConfig
from evomerge.errors import ConfigError, Interrupted, RunError
from evomerge.execution.base import StopSignal
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Record, Score, Split
from evomerge.search import Listener, Search
from evomerge.store.run_dir import RunDir
from evomerge.store.status import COMPLETE, FAILED, INTERRUPTED, RUNNING, run_status

if TYPE_CHECKING:
    from evomerge.build import Prepared

log = logging.getLogger("evomerge")

Note = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """A run folder, to be read.

    Attributes:
        path: the folder.
    """

    path: Path

    def status(self) -> dict[str, Any]:
        """Return where the run stands; see `evomerge.store.status.run_status`."""
        with RunDir.open(self.path) as run:
            return run_status(run)

    def records(self, *, baselines: bool = False) -> list[Record]:
        """Return the candidates in order of proposal; with `baselines`, the parents and the average first."""
        with RunDir.open(self.path) as run:
            return list(run.database.records(baselines=baselines))

    def best(self) -> Recipe | None:
        """Return the best recipe: the winner's, or while the search goes on the best on the search items."""
        with RunDir.open(self.path) as run:
            return run.best()

    def warnings(self) -> list[str]:
        """Return what to bear in mind when reading the result, one sentence each."""
        return list(_warnings(self.status()))


def search(
    config: Mapping[str, Any],
    *,
    run_dir: str | Path | None = None,
    listener: Listener | None = None,
    stop: StopSignal | None = None,
    note: Note | None = None,
) -> Run:
    """Run a whole search: baselines, candidates, finalists, test.

    Args:
        config: see `configs/search.yaml` for the keys.
        run_dir: the folder to make; None: `run.dir` of the configuration, else `outputs/<name>/<time>`.
        listener: is told of every step, to show it.
        stop: to stop from outside.
        note: is told what takes a while before the first step.

    Returns:
        The finished run.

    Raises:
        ConfigError: with every mistake, before a model is loaded and before the folder is made.
        Interrupted: if `stop` asked for it; `resume` continues.
        RunError: if the folder holds a run or cannot be written.
        EvaluationError: if no candidate could be scored.
    """
    from evomerge.build import prepare

    if note is not None:
        note("checking models and tasks")
    prepared = prepare(config)
    folder = Path(run_dir or (config.get("run") or {}).get("dir") or _default_folder(prepared.config.name))
    plain = {key: value for key, value in config.items() if key != "run"}
    with RunDir.create(folder, config=plain) as run:
        if note is not None:
            note(f"run folder {folder}")
        splits = prepared.harness.split_data()
        run.database.set_splits(splits["tasks"])
        return _carry_out(run, prepared, listener=listener, stop=stop, note=note)


def resume(
    run_dir: str | Path,
    *,
    budget: Mapping[str, float | int] | None = None,
    listener: Listener | None = None,
    stop: StopSignal | None = None,
    note: Note | None = None,
) -> Run:
    """Continue a run after an interruption or a crash, or with a larger budget.

    Args:
        run_dir: the folder of the run.
        budget: limits (`candidates`, `items`, `seconds`) that replace those of the run.
        listener: as in `search`; so are `stop` and `note`.

    Raises:
        ConfigError: if the models or tasks are no longer what they were, or the budget is wrong.
        RunError: if the folder is no run, is written by another process, or is damaged.
    """
    from evomerge.build import prepare
    from evomerge.store import changed_versions

    with RunDir.open(run_dir, write=True) as run:
        data = run.config
        data["budget"] = {**(data.get("budget") or {}), **run.database.get_meta("budget", {}), **(budget or {})}
        for change in changed_versions(run.environment):
            log.warning("since the run began, %s", change)
        if note is not None:
            note("checking models and tasks")
        recorded = {"seed": data.get("seed", 0), "tasks": run.database.splits()}
        prepared = prepare(data, recorded_splits=recorded if recorded["tasks"] else None)
        run.database.set_splits(prepared.harness.split_data()["tasks"])
        if budget:
            run.database.set_meta("budget", dict(budget))
        return _carry_out(run, prepared, listener=listener, stop=stop, note=note)


def status(run_dir: str | Path) -> dict[str, Any]:
    """Return where a run stands; see `evomerge.store.status.run_status` for the keys."""
    return Run(Path(run_dir)).status()


def records(run_dir: str | Path, *, baselines: bool = False) -> list[Record]:
    """Return the candidates of a run in order of proposal."""
    return Run(Path(run_dir)).records(baselines=baselines)


def space(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every gene of a configuration: name, low, high, start, log, doc. No weights are read."""
    from evomerge.build import prepare_space

    return prepare_space(SearchConfig.from_data(config)).describe()


def methods() -> list[dict[str, Any]]:
    """Return the merge methods: name, summary, paper, needs_base, n_parents, parameters."""
    from dataclasses import asdict

    from evomerge.merge.methods import METHODS

    return [asdict(method.spec) for method in METHODS.values()]


def merge(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    shard_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Build the model of a recipe (or of a recipe file) as a Hugging Face folder.

    Args:
        out: the folder to make; must not exist or be empty.
        shard_size: largest weight file, in bytes; None: 5 GB.
        progress: is told (tensors done, tensors in all).

    Raises:
        RecipeError: if the recipe is wrong.
        CheckpointError: if its models cannot be read or do not fit together.
        ExportError: if the folder cannot be written.
    """
    from evomerge.merge.disk import SHARD_BYTES, merge_to_disk

    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    return merge_to_disk(loaded, out, shard_size=shard_size or SHARD_BYTES, progress=progress)


def evaluate(
    target: str | Path | Recipe,
    *,
    tasks: Sequence[str] = (),
    include_path: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    device: str = "auto",
    dtype: str | None = None,
) -> dict[str, dict[str, Score]]:
    """Score a model on tasks.

    Args:
        target: a model folder, Hub id, `zoo:NAME`, recipe (file), or run folder (its best merge).
        tasks: lm-eval task names; for a run none are needed: its own tasks and test items are taken.
        include_path: folders with task YAML files; `zoo:tasks` for the zoo's.
        limit: only so many items a task, drawn by `seed`.
        dtype: in which the model runs; None: float32 on a CPU, its own elsewhere.

    Returns:
        Task to metric to mean with 95 % interval.

    Raises:
        ConfigError: if a task cannot be used.
        CheckpointError: if the model cannot be read.
        EvaluationError: if it cannot be scored.
    """
    from evomerge.build import find_device, running_dtype
    from evomerge.merge.resident import LiveModel

    recipe, harness, split = _what_to_score(target, tasks, include_path, limit, seed, batch_size)
    source = recipe.base.source if recipe.base is not None else recipe.parents[0].source
    chosen = find_device(device)
    live = LiveModel(source, dtype=running_dtype(dtype, chosen), device=chosen)
    live.write(recipe)
    return _means(harness.score(live.model, live.tokenizer, split))


def export(
    run_dir: str | Path,
    out: str | Path,
    *,
    shard_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the best merge of a run as a Hugging Face folder: weights, config, tokenizer, recipe, model card.

    Raises:
        RunError: if the folder is no run.
        ExportError: if there is no best yet, or the folder cannot be written.
    """
    from evomerge.export import export_run

    with RunDir.open(run_dir) as run:
        return export_run(run, out, shard_size=shard_size, progress=progress)


def push(
    run_dir: str | Path, repo_id: str, *, private: bool = True, dry_run: bool = False, token: str | None = None
) -> list[tuple[str, int]]:
    """Upload the best merge of a run, or a folder made by `export`, to the Hub.

    Args:
        repo_id: "org/name".
        dry_run: list what would go and send nothing.
        token: None: from HF_TOKEN or the login of the Hub's own command. Never printed.

    Returns:
        The files: path in the repository and size in bytes.
    """
    import tempfile

    from evomerge.export import push as push_folder

    folder = Path(run_dir)
    with tempfile.TemporaryDirectory(prefix="evomerge-push-") as scratch:
        if not (folder / "config.json").is_file():
            folder = export(folder, Path(scratch) / repo_id.rpartition("/")[2])
        files = push_folder(folder, repo_id, private=private, dry_run=dry_run, token=token)
        return [(file.path, file.size) for file in files]


# --- one run, from the database to the winner --------------------------------------------------------------------


def _carry_out(
    run: RunDir, prepared: Prepared, *, listener: Listener | None, stop: StopSignal | None, note: Note | None
) -> Run:
    """Run what is left of a search, and write down how it ended."""
    stop = stop or StopSignal()
    database = run.database
    with _logging_to(run.log_path):
        database.set_meta("state", RUNNING)
        try:
            optimizer = prepared.optimizer()
            if note is not None:
                note("loading the parents")
            executor = prepared.executor(stop)
            try:
                winner = Search(
                    run_dir=run,
                    space=prepared.space,
                    optimizer=optimizer,
                    executor=executor,
                    measure=prepared.objective,
                    baselines=prepared.baselines,
                    budget=prepared.config.budget,
                    items_per_candidate=prepared.items_per_candidate,
                    finalists=prepared.config.evaluation.finalists,
                    splits=prepared.splits,
                    stop=stop,
                    listener=_Logged(listener),
                ).run()
            finally:
                executor.close()
        except (Interrupted, KeyboardInterrupt):
            database.set_meta("state", INTERRUPTED)
            log.info("interrupted")
            raise
        except Exception as error:
            log.exception("the search ended with an error")
            # The database itself may be what failed: the error that the user must see is the first one.
            with _first_error_counts():
                database.set_meta("error", str(error))
                database.set_meta("state", FAILED)
            raise
        database.set_meta("error", None)
        database.set_meta("state", COMPLETE)
        log.info("complete: the winner is %s", winner.name)
    return Run(run.path)


class _Logged:
    """Writes every step to the run's log, and passes it on."""

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener

    def phase(self, name: str, total: int | None, done: int) -> None:
        log.info("%s: %s candidates, %d done before", name, "unbounded" if total is None else total, done)
        if self._listener is not None:
            self._listener.phase(name, total, done)

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        mean = "no score" if score is None else f"{score.mean:.4f}"
        log.info("%s, %s: %s %s%s", record.name, split, record.state, mean, f": {record.error}" if record.error else "")
        if self._listener is not None:
            self._listener.scored(record, split, score)


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Write this package's log lines to a file, besides wherever the program sends them."""
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()


@contextmanager
def _first_error_counts() -> Iterator[None]:
    try:
        yield
    except RunError as error:
        log.error("the state could not be written either: %s", error)


def _warnings(found: Mapping[str, Any]) -> Iterator[str]:
    best = found.get("best")
    if best is None or best.get("test") is None:
        return
    test = best["test"]
    for baseline in found["baselines"]:
        other = baseline.get("test")
        if other is not None and test["low"] <= other["high"]:
            yield (
                f"the best merge's interval overlaps that of {baseline['name']}: the gain may be noise; "
                "more test items would tell"
            )
    if best.get("search") and best["search"]["mean"] > test["high"]:
        yield "the search score lies above the test interval: it is the best of many noisy scores, so trust the test"


def _default_folder(name: str) -> Path:
    return Path("outputs") / name / time.strftime("%Y-%m-%d_%H-%M-%S")


# --- scoring one model -------------------------------------------------------------------------------------------


def _what_to_score(
    target: str | Path | Recipe,
    tasks: Sequence[str],
    include_path: Sequence[str],
    limit: int | None,
    seed: int,
    batch_size: int,
) -> tuple[Recipe, Any, Split]:
    """Return the recipe to build, the tasks, and the split that holds the items."""
    from evomerge.build import include_paths
    from evomerge.evaluation.lm_harness import LmHarness
    from evomerge.evaluation.task import SplitSizes
    from evomerge.store.run_dir import DATABASE

    path = None if isinstance(target, Recipe) else Path(target)
    if path is not None and (path / DATABASE).is_file():
        with RunDir.open(path) as run:
            recipe, config = run.best(), SearchConfig.from_data(run.config)
            recorded = {"seed": config.seed, "tasks": run.database.splits()}
        if recipe is None:
            raise RunError(f"the run {path} has no best merge yet; continue it with `evomerge resume {path}`")
        if not tasks:
            evaluation = config.evaluation
            harness = LmHarness(
                evaluation.tasks,
                sizes=evaluation.split,
                seed=config.seed,
                include_path=include_paths(evaluation.include_path),
                batch_size=batch_size,
                apply_chat_template=evaluation.apply_chat_template,
                recorded_splits=recorded,
            )
            return recipe, harness, Split.TEST
    else:
        recipe = _as_recipe(target)
    if not tasks:
        raise ConfigError("name at least one task to score the model on, for example --task gsm8k")
    sizes = SplitSizes(search=limit, validation=0, test=0)
    paths = include_paths(list(include_path))
    specs = [_any_spec(task, paths) for task in tasks]
    return recipe, LmHarness(specs, sizes=sizes, seed=seed, include_path=paths, batch_size=batch_size), Split.SEARCH


def _any_spec(task: str, include_path: Sequence[Path]) -> Any:
    """Return a spec of a task with its first metric and filter: all of them are reported anyway.

    Args:
        task: a name; for a task written in Python, whose metrics no file lists, "name:metric".
    """
    from evomerge.evaluation.catalog import TaskCatalog, filter_names, read_config
    from evomerge.evaluation.metrics import declared_metrics
    from evomerge.evaluation.task import TaskSpec

    name, _, metric = task.partition(":")
    entry = TaskCatalog(include_path).find(name)
    if entry is None or entry.kind != "task" or metric:
        return TaskSpec(name, metric or "acc", direction="maximize")  # the harness says what is wrong
    task_config = read_config(entry.path)
    declared = declared_metrics(task_config, task_config.get("output_type", "generate_until"))
    usable = [key for key, one in declared.items() if one.per_item is not False] or ["acc"]
    return TaskSpec(name, usable[0], filter=filter_names(task_config)[0], direction="maximize")


def _as_recipe(target: str | Path | Recipe) -> Recipe:
    if isinstance(target, Recipe):
        return target
    if Path(target).suffix in (".yaml", ".yml"):
        return Recipe.load(target)
    return Recipe("linear", (Parent("model", ModelSource(str(target))),))


def _means(scores: Sequence[Any]) -> dict[str, dict[str, Score]]:
    from evomerge.evaluation.intervals import mean_score

    values: dict[str, dict[str, list[float]]] = {}
    for item in scores:
        for metric, value in item.metrics.items():
            values.setdefault(item.task, {}).setdefault(metric, []).append(value)
    return {task: {metric: mean_score(found) for metric, found in metrics.items()} for task, metrics in values.items()}


__all__ = [
    "Run",
    "evaluate",
    "export",
    "merge",
    "methods",
    "push",
    "records",
    "resume",
    "search",
    "space",
    "status",
]
