"""The Python API: everything that the command line does, with plain arguments and return values.

A configuration is a nested mapping with the keys of `configs/search.yaml`; what is left out has the defaults of
`evomerge.config.schema`. Heavy libraries are imported inside the functions, so `import evomerge` stays light.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.errors import ConfigError
from evomerge.execution.base import StopSignal
from evomerge.recipe import Recipe
from evomerge.record import Record, Score
from evomerge.search.events import Listener
from evomerge.store.responses import Responses, run_responses
from evomerge.store.run_dir import RunDir
from evomerge.workflows.run import Run, recipe_of
from evomerge.workflows.search import Note, carry_out
from evomerge.workflows.show import show

if TYPE_CHECKING:
    from evomerge.export import ExportReport
    from evomerge.export.verify import Verification
    from evomerge.workflows.full_evaluation import FullResult

log = logging.getLogger("evomerge")


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
    from evomerge.assembly.prepare import prepare

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
        carry_out(run, prepared, listener=listener, stop=stop, note=note)
    return Run(folder)


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
    from evomerge.assembly.prepare import prepare
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
        carry_out(run, prepared, listener=listener, stop=stop, note=note)
    return Run(Path(run_dir))


def status(run_dir: str | Path) -> dict[str, Any]:
    """Return where a run stands; see `Run.status`."""
    return Run(Path(run_dir)).status()


def records(run_dir: str | Path, *, baselines: bool = False) -> list[Record]:
    """Return the candidates of a run in order of proposal."""
    return Run(Path(run_dir)).records(baselines=baselines)


def space(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every gene of a configuration: name, low, high, start, log, kind, doc and stage. No weights are read."""
    from evomerge.assembly.prepare import prepare_spaces
    from evomerge.config.reader import from_data

    checked = from_data(config)
    spaces = zip(checked.stages, prepare_spaces(checked), strict=True)
    return [{**gene, "stage": stage.name} for stage, space in spaces for gene in space.describe()]


def profile(
    config: Mapping[str, Any], *, candidates: int = 3, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Run a few candidates of a configuration, after one that warms up, and say where their time goes.

    The search's own loop runs them (on the search items, without baselines), once for each stage; nothing is left on
    the disk. Numbers are means over the candidates of a stage.

    Args:
        config: as in `search`; its budget is not used.
        candidates: how many are timed in each stage.
        progress: is told (candidates done, candidates in all).

    Returns:
        What ran (`device`, `dtype`, `threads`, `engine`, `cache`, `items` per candidate), `memory_bandwidth` (bytes
        read and written per second, measured), and for each of `stages`: `seconds` of each part
        (`evomerge.workflows.profile.PARTS`) and in `total`, `share` of each part, `share_outside_passes` (None for an
        engine whose passes are not seen, such as vLLM: they count as its part "engine"), what the `merge` moved,
        `tokens_per_second` of `prefill` and `decode` (positions computed, padding included), `cache_hits` among the
        `proposals`.

    Raises:
        ConfigError: with every mistake, before a model is loaded.
        EvaluationError: if too few candidates could be scored.
    """
    from evomerge.workflows.profile import profile as take

    return take(config, candidates=candidates, progress=progress)


def methods() -> list[dict[str, Any]]:
    """Return the merge methods: name, summary, paper, needs_base, n_parents, parameters."""
    from dataclasses import asdict

    from evomerge.merge.methods.registry import METHODS, find_method

    return [asdict(find_method(name).spec) for name in METHODS]


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
    from evomerge.merge.disk.folder import SHARD_BYTES, merge_to_disk

    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    return merge_to_disk(loaded, out, shard_size=shard_size or SHARD_BYTES, progress=progress)


def evaluate(
    target: str | Path | Recipe,
    *,
    tasks: Sequence[str] = (),
    include_path: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> dict[str, dict[str, Score]]:
    """Score a model on tasks.

    Args:
        target: a model folder, Hub id, `zoo:NAME`, recipe (file), or run folder (its best merge).
        tasks: lm-eval task names; for a run none are needed: its own tasks and test items are taken.
        include_path: folders with task YAML files; `zoo:tasks` for the zoo's.
        limit: only so many items a task, drawn by `seed`.
        batch_size: None: the default of `evaluation.batch_size`; so is `device` that of `execution.device`.
        dtype: in which the model runs; None: float32 on a CPU, its own elsewhere.

    Returns:
        Task to metric to mean with 95 % interval.

    Raises:
        ConfigError: if a task cannot be used.
        CheckpointError: if the model cannot be read.
        EvaluationError: if it cannot be scored.
    """
    from evomerge.workflows.evaluate import score_one_model

    return score_one_model(
        target,
        tasks=tasks,
        include_path=include_path,
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
    )


def evaluate_full(
    target: str | Path | Mapping[str, Any],
    *,
    winner: bool = False,
    parents: bool = False,
    out: str | Path | None = None,
    force: bool = False,
    batch_size: int | None = None,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    note: Note | None = None,
) -> FullResult:
    """Score models on all items of a configuration's tasks: the winner of a run, or the models that it is made of.

    Args:
        target: a run folder, or a configuration as in `search`.
        winner: the run's best merge.
        parents: each parent, the plain average, and the base where it is none of the parents.
        out: a file for the response matrix (`evomerge.store.responses`), written after each model. Models that it
            holds already are taken from there.
        force: score them all the same, and replace their rows.
        batch_size: instead of the configuration's; so is `device`.
        progress: is told (parts done, parts in all), a few for each model.
        note: is told what takes a while.

    Returns:
        Each model's score on all items and on those that the search never saw, and the response matrix.

    Raises:
        ConfigError: with every mistake of the configuration; if `out` holds other items or models.
        RunError: if the folder is no run, has no winner yet, or `out` cannot be written.
        EvaluationError: if a model cannot be scored.
    """
    from evomerge.workflows.full_evaluation import score_everything

    if not winner and not parents:
        raise ConfigError("nothing to score: ask for the winner, the parents, or both")
    return score_everything(
        target,
        winner=winner,
        parents=parents,
        out=out,
        force=force,
        batch_size=batch_size,
        device=device,
        progress=progress,
        note=note,
    )


def responses(run_dir: str | Path) -> Responses:
    """Return who answered what in a run: baselines and candidates on the items of all splits; NaN: not scored."""
    with RunDir.open(run_dir) as run:
        return run_responses(run)


def export(
    run_dir: str | Path,
    out: str | Path,
    *,
    shard_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    verify: bool = True,
    tolerance: float | None = None,
    report: Callable[[ExportReport], None] | None = None,
) -> Path:
    """Write the best merge of a run as a Hugging Face folder: weights, config, tokenizer, recipe, model card.

    Args:
        verify: whether the finished folder is compared with the live model before it appears.
        tolerance: of that comparison; see `evomerge.export.verify.verify`.
        report: is told what is known of the folder: the comparison, what repeated layers cost.

    Raises:
        RunError: if the folder is no run.
        ExportError: if there is no best yet, the folder cannot be written, or it fails the comparison.
    """
    from evomerge.export import export_run

    with RunDir.open(run_dir) as run:
        return export_run(
            run,
            out,
            shard_size=shard_size,
            progress=progress,
            verify=verify,
            tolerance=tolerance,
            report=report,
        )


def verify(
    target: str | Path | Recipe,
    folder: str | Path,
    *,
    prompts: Sequence[str] = (),
    n_random: int = 8,
    length: int = 48,
    new_tokens: int = 32,
    seed: int = 0,
    tolerance: float | None = None,
    device: str = "cpu",
) -> Verification:
    """Compare a saved checkpoint with the live model of a recipe, on random and given prompts, in float32.

    Args:
        target: a recipe (file), or a run folder (its best merge).
        folder: the checkpoint.
        prompts: texts; further arguments as in `evomerge.export.verify.verify`.

    Returns:
        Largest relative difference of logits, share of equal greedy tokens, and whether they pass.

    Raises:
        RunError: if the run has no best merge yet.
        ExportError: if the folder cannot be loaded.
        CheckpointError, RecipeError: if the recipe cannot be built.
    """
    from evomerge.export.verify import verify as compare

    return compare(
        recipe_of(target),
        folder,
        prompts=prompts,
        n_random=n_random,
        length=length,
        new_tokens=new_tokens,
        seed=seed,
        tolerance=tolerance,
        device=device,
    )


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


def _default_folder(name: str) -> Path:
    return Path("outputs") / name / time.strftime("%Y-%m-%d_%H-%M-%S")


__all__ = [
    "Run",
    "evaluate",
    "evaluate_full",
    "export",
    "merge",
    "methods",
    "push",
    "records",
    "responses",
    "resume",
    "search",
    "show",
    "space",
    "status",
    "verify",
]
