"""The Python API: everything that the command line does, with plain arguments and return values.

A configuration is a nested mapping with the keys of `configs/search.yaml`; a key that is left out has its default in
`evomerge.config.schema`. Heavy libraries are imported inside the functions, so `import evomerge` stays light.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.workflows import (
    Against,
    Limit,
    Listener,
    Moment,
    Note,
    Progress,
    Recipe,
    Record,
    Score,
    Split,
    StopSignal,
    TaskGain,
    Works,
)
from evomerge.workflows.run import Run
from evomerge.workflows.watch import Watch

if TYPE_CHECKING:
    from evomerge.analysis.answers import AnsweredItem
    from evomerge.estimation import Responses
    from evomerge.export import ExportReport
    from evomerge.export.adapter import ExtractedAdapter
    from evomerge.export.hub import Pushed
    from evomerge.export.verification import Verification
    from evomerge.report import Shown
    from evomerge.workflows.evaluate import RunEvaluation
    from evomerge.workflows.full_evaluation import FullResult
    from evomerge.workflows.report import WrittenReport


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
        listener: called at every step, to show it.
        stop: by which the caller can stop the search.
        note: called with a sentence about each thing that takes a while before the first step.

    Returns:
        The finished run.

    Raises:
        ConfigError: with every mistake, before a model is loaded and before the folder is made.
        Interrupted: if `stop` was requested; `resume` continues the run.
        RunError: if the folder holds a run or cannot be written.
        EvaluationError: if no candidate could be scored.
    """
    from evomerge.workflows.search import search as run

    return run(config, run_dir=run_dir, listener=listener, stop=stop, note=note)


def resume(
    run_dir: str | Path,
    *,
    budget: Mapping[str, float | int] | None = None,
    changes: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
    stop: StopSignal | None = None,
    note: Note | None = None,
) -> Run:
    """Continue a run after an interruption or a crash, with a larger budget, or with settings that concern speed.

    Args:
        run_dir: the folder of the run; it may have moved.
        budget: limits (`candidates`, `items`, `seconds`) that replace those of the run.
        changes: other values for keys that cannot change a result, such as `{"execution.threads": 2}` or the new place
            of a model, `{"models.parents.math": "/new/place"}`; `evomerge explain KEY` says which keys these are. The
            keys in the run's config.yaml may be edited instead.
        listener: as in `search`; so are `stop` and `note`.

    Raises:
        InputsChanged: with everything that the run stands on and that is no longer what it was (models, tokenizers,
            items, labels, the user's own code, keys that decide results); the run is as it was. It is a `RunError`.
        ConfigError: if the budget or a change is wrong, or a key may not be changed.
        RunError: if the folder is no run, is written by another process, or is damaged.
    """
    from evomerge.workflows.resume import resume as run

    return run(run_dir, budget=budget, changes=changes, listener=listener, stop=stop, note=note)


def status(run_dir: str | Path) -> dict[str, Any]:
    """Return where a run stands; see `Run.status`."""
    return Run(Path(run_dir)).status()


def watch(run_dir: str | Path) -> Watch:
    """Return what looks at a run again and again while it goes on, here or elsewhere; see `evomerge.workflows.watch`.

    Raises:
        RunError: if the folder is no run.
    """
    return Watch(run_dir)


def runs_in(folder: str | Path) -> list[Path]:
    """Return the folders of the runs in a folder, by name.

    Raises:
        RunError: if there is no such folder.
    """
    from evomerge.workflows.watch import runs_in as found

    return list(found(folder))


def records(run_dir: str | Path, *, baselines: bool = False) -> list[Record]:
    """Return the candidates of a run in order of proposal."""
    return Run(Path(run_dir)).records(baselines=baselines)


def answers(
    run_dir: str | Path,
    *,
    model: str | None = None,
    against: Sequence[str] | None = None,
    tasks: Sequence[str] = (),
    split: str | None = None,
    item: int | None = None,
    which: Sequence[str] = (),
) -> list[AnsweredItem]:
    """Return what models of a run answered, side by side; no model, task or network is needed for it.

    Kept are the answers of baselines and finalists, of the chosen merges on the test items, and of the best candidates
    on their search items (`evaluation.answers`).

    Args:
        run_dir: the folder of the run; another process may be running it.
        model: "winner" (while the search goes on: the best so far), a baseline's name, a candidate's number,
            "consensus", or "parent:NAME" for a baseline whose name is one of those; None: the winner.
        against: the models that stand beside it; None: the best parent of each task.
        tasks: names of tasks; none: all.
        split: "search", "validation" or "test"; None: the last on which answers of all these models are kept.
        item: number of an item; None: all.
        which: "lost" and "gained" (the model is worse or better than the first beside it), "wrong", "right"; none: all.

    Returns:
        The items, lost ones first; see `evomerge.analysis.answers.AnsweredItem`.

    Raises:
        RunError: if the folder is no run, there is no such model, task or item, or its answers are not kept.
        ConfigError: if there is no such split or kind.
    """
    from evomerge.workflows.answers import answers as read

    return read(run_dir, model=model, against=against, tasks=tasks, split=split, item=item, which=which)


def save_answers(run_dir: str | Path, rows: Sequence[AnsweredItem], out: str | Path) -> list[Path]:
    """Write answers as lm-eval's sample logs, `out/MODEL/samples_TASK_TIME.jsonl`, and return the files.

    Args:
        run_dir: the folder of the run.
        rows: what `answers` returned.
        out: the folder to write into.

    Raises:
        RunError: if the run did not keep what was asked, or a file cannot be written.
    """
    from evomerge.workflows.answers import save_answers as write

    return write(run_dir, rows, out)


def sweep_summary(runs: Sequence[tuple[Sequence[str], str | Path]]) -> dict[str, Any]:
    """Return what several searches found, side by side, and over seeds.

    Args:
        runs: for each search the settings by which it differs from the others, like ["seed=1", "optimizer=cma"], and
            its run folder. Searches that differ in the seed alone are put together.

    Returns:
        `searches`: for each `setting`, `path`, `state`, `error`, `best` (name), `test` (its score), `best_parent`,
        `gain` over that parent (`difference`, `low`, `high`, `p_value`, `n` items), `lost` (names of the tasks whose
        skill it has lost, see `evomerge.analysis.skills`) and `seconds`. `groups`: for each setting without the seed
        the number of `searches` and of those that are `complete`; for each of its `models` ("best merge", parents,
        average) the `test` score and each of its `tasks` ("task metric") over seeds, and the `gain` likewise, with the
        number of searches in which it is `above` zero. What is over seeds has `mean`, `spread` (standard deviation),
        `low` and `high` (95 % interval of the mean, Student's), `p_value` and `n`; the interval and `p_value` are None
        for one search, and where all are equal.
    """
    from evomerge.workflows.sweep import sweep_summary as summary

    return summary(runs)


def space(config: Mapping[str, Any], *, note: Note | None = None) -> list[dict[str, Any]]:
    """Return every gene of a configuration: name, low, high, start, log, kind, doc and stage.

    Genes that could change nothing, since parents equal the base there, are none of a search. Weights are read as far
    as they are equal.

    Args:
        config: as in `search`.
        note: called with a sentence about the genes that are left out.
    """
    from evomerge.workflows.space import space as genes

    return genes(config, note=note)


def inspect(
    models: Sequence[str | Path | Recipe],
    *,
    base: str | Path | Recipe | None = None,
    download: bool = False,
    note: Note | None = None,
) -> dict[str, Any]:
    """Say what models are, and whether they are of one ancestry; reads configurations, headers and samples of weights.

    Args:
        models: model folders, Hub ids, `zoo:NAME`, recipes (files), or run folders, which stand for their parents and
            base. `NAME=MODEL` gives a name; otherwise it is the last part of the place.
        base: the model from which task vectors are measured, in the same forms.
        download: whether weights of Hub models that are not here are downloaded; if not, their headers answer, and
            nothing is said of ancestry, which needs values.
        note: called with a sentence about what takes a while.

    Returns:
        `models` and `pairs`, the verdict on each model but the base in `ancestry` ("same", "doubtful", "foreign"),
        `warnings` as `{"kind", "text"}`; see docs/ancestry.md for every key.

    Raises:
        ConfigError: if no model is named.
        CheckpointError: with every model that cannot be opened.
        RecipeError: if a recipe is wrong.
    """
    from evomerge.workflows.inspect import inspect as run

    return run(models, base=base, download=download, note=note)


def profile(
    config: Mapping[str, Any],
    *,
    candidates: int = 3,
    progress: Progress | None = None,
    note: Note | None = None,
) -> dict[str, Any]:
    """Run a few candidates of a configuration, after one to warm up, and return where their time goes.

    The search's own loop runs them, for each stage, on the search items and without baselines; nothing is left on the
    disk. Numbers are means over the candidates of a stage.

    Args:
        config: as in `search`; its budget is not used.
        candidates: how many are timed in each stage.
        progress: called with (candidates done, candidates in all).
        note: called with a sentence about each thing that the user should know before anything runs.

    Returns:
        What ran (`device`, `dtype`, `threads`, `engine`, `cache`, `items` per candidate), `memory_bandwidth` (bytes
        read and written per second, measured), and for each of `stages`: `seconds` of each part
        (`evomerge.workflows.profile.PARTS`) and in `total`, `share` of each part, `share_outside_passes` (None for an
        engine whose passes cannot be timed, such as vLLM: its part "engine" contains them), what the `merge` moved,
        `tokens_per_second` of `prefill` and `decode` (positions computed, padding included), `cache_hits` among the
        `proposals`. `plan` says how long the search would take (`evomerge.search.plan.Plan`, with `text`, a sentence).

    Raises:
        ConfigError: with every mistake, before a model is loaded.
        EvaluationError: if too few candidates could be scored.
    """
    from evomerge.workflows.profile import profile as run

    return run(config, candidates=candidates, progress=progress, note=note)


def methods() -> list[dict[str, Any]]:
    """Return the merge methods by topic, each as `method` does."""
    from evomerge.workflows.methods import methods as known

    return known()


def method(name: str) -> dict[str, Any]:
    """Return all of a merge method's declaration, as data.

    It has `name`, `summary`, `formula`, `notes`, `paper`, `topic`, `n_parents` (least and most; None: any number),
    `needs_base`, `base` (always, never, or sometimes: with the values in `base_with`), `parameters` with all that is
    declared of each and its `kind`: float, integer, choice or flag, and what the method promises (`share`,
    `of_equals`).

    Args:
        name: of a method, "module:METHOD" or "my_file.py:function".

    Raises:
        RecipeError: if there is no such method.
    """
    from evomerge.workflows.methods import method as declared

    return declared(name)


def measures() -> tuple[str, ...]:
    """Return the names of the measures; `is_share` says whether the values of one are shares, counts or nats."""
    from evomerge.workflows.measures import measures as known

    return known()


def is_share(metric: str) -> bool:
    """Return whether a metric's values may be shown in per cent, unlike tokens, nats, perplexities or BLEU."""
    from evomerge.workflows.measures import is_share as known

    return known(metric)


def merge(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    shard_size: int | None = None,
    progress: Progress | None = None,
    save_state: str | Path | None = None,
    continue_from: str | Path | None = None,
    note: Note | None = None,
) -> Path:
    """Build the model of a recipe (or of a recipe file) as a Hugging Face folder.

    Args:
        out: the folder to make; it must not exist, or be empty.
        shard_size: largest weight file, in bytes; None: 5 GB.
        progress: called with (tensors done, tensors in all).
        save_state: a folder to make for the state of a merge by `opcm`, so that it can be continued with further models
            when these are gone; None: none.
        continue_from: such a folder of an earlier merge, whose models the recipe names first; they need not exist.
        note: called with a sentence about each model that is downloaded, and with how far that is (`Advance`).

    Raises:
        RecipeError: if the recipe is wrong, or does not agree with the state.
        CheckpointError: if its models cannot be read or do not fit together.
        ExportError: if the folder cannot be written.
    """
    from evomerge.workflows.merge import merge as run

    return run(
        recipe,
        out,
        shard_size=shard_size,
        progress=progress,
        save_state=save_state,
        continue_from=continue_from,
        note=note,
    )


def convert(source: str | Path, out: str | Path | None = None, *, force: bool = False) -> str:
    """Write a mergekit YAML as a recipe of evomerge, or a recipe of evomerge as a mergekit YAML; the file tells which.

    Args:
        source: the file.
        out: the file to write, which appears whole or not at all; None: none.
        force: whether `out` is replaced if it is there.

    Returns:
        The text. In comments it says what was left out, or what mergekit will do otherwise.

    Raises:
        RecipeError: with every mistake, or everything that mergekit cannot express; or if `out` is there already.
    """
    from evomerge.workflows.convert import convert as run

    return run(source, out, force=force)


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
    allow_unsafe_code: bool | None = None,
    apply_chat_template: bool | str | None = None,
    system_instruction: str | None = None,
    chat_template_args: Mapping[str, Any] | None = None,
    fewshot_as_multiturn: bool | None = None,
    think_end_token: str | int | None = None,
    num_fewshot: int | None = None,
    gen_kwargs: Mapping[str, Any] | None = None,
    note: Note | None = None,
    log_samples: str | Path | None = None,
) -> dict[str, dict[str, Score]]:
    """Score a model on tasks.

    How it is asked has lm-eval's own names and meaning. What is None is as the run says whose best merge is scored
    (`evaluation.chat`, and the entries of its tasks), else as lm-eval does by default.

    Args:
        target: a model folder, Hub id, `zoo:NAME`, recipe (file), or run folder (its best merge).
        tasks: lm-eval task names; a run needs none, since it has its own tasks and test items.
        include_path: folders with task YAML files; `zoo:tasks` for the zoo's.
        limit: how many items of each task to score, drawn by `seed`; None: all.
        seed: from which the items are drawn.
        batch_size: most sequences in a forward pass; None: the default of `evaluation.batch_size`.
        device: what the model runs on; None: the default of `execution.device`.
        dtype: in which the model runs; None: float32 on a CPU, its own elsewhere.
        allow_unsafe_code: whether tasks may run, with your rights, code that the model writes; None: as the
            configuration of a run says that is scored on its own tasks, else no.
        apply_chat_template: whether questions are put as a chat, by the tokenizer's template; a name: by that one of
            its templates.
        system_instruction: a system message, before a task's own description.
        chat_template_args: what else the template is given, like `{"enable_thinking": False}`.
        fewshot_as_multiturn: whether solved examples are turns of the chat (lm-eval's default), or all in one.
        think_end_token: the text, or the id of the token, behind which an answer begins, like "</think>".
        num_fewshot: solved examples in front of each question, of each task that does not fix them at none.
        gen_kwargs: settings that take the place of those of each task that asks for texts, like
            `{"max_gen_toks": 1024, "until": []}`; answers stay greedy.
        note: called with a sentence about each thing that the user should know before anything runs.
        log_samples: a folder into which what was asked and answered is written as `lm_eval --log_samples` does:
            `MODEL/samples_TASK_TIME.jsonl`; None: it is not.

    Returns:
        Task to metric to score with 95 % interval: lm-eval's number for every metric, and the measures.

    Raises:
        ConfigError: if a task cannot be used.
        CheckpointError: if the model cannot be read.
        EvaluationError: if it cannot be scored.
    """
    from evomerge.workflows.asking import Asking
    from evomerge.workflows.evaluate import evaluate as run

    return run(
        target,
        tasks=tasks,
        include_path=include_path,
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        allow_unsafe_code=allow_unsafe_code,
        asking=Asking(
            apply_chat_template,
            system_instruction,
            chat_template_args,
            fewshot_as_multiturn,
            think_end_token,
            num_fewshot,
            gen_kwargs,
        ),
        note=note,
        log_samples=log_samples,
    )


def evaluate_run(
    run_dir: str | Path,
    *,
    batch_size: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    allow_unsafe_code: bool | None = None,
    note: Note | None = None,
    log_samples: str | Path | None = None,
) -> RunEvaluation:
    """Score a run's best merge on the run's test items, beside what the run has of the parents and the average.

    Args:
        run_dir: the run.
        batch_size: as in `evaluate`; so are `device`, `dtype`, `allow_unsafe_code`, `note` and `log_samples`.

    Returns:
        The scores that `evaluate` returns; and for each task the recorded scores of the others, and the paired
        difference from the parent that is best at it.

    Raises:
        RunError: if the folder is no run, has no best merge yet, or its models are others now.
        EvaluationError: if the merge cannot be scored.
    """
    from evomerge.workflows.evaluate import evaluate_run as run

    return run(
        run_dir,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        allow_unsafe_code=allow_unsafe_code,
        note=note,
        log_samples=log_samples,
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
    allow_unsafe_code: bool | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> FullResult:
    """Score models on all items of a configuration's tasks: the winner of a run, or the models that it is made of.

    Args:
        target: a run folder, or a configuration as in `search`.
        winner: the run's best merge.
        parents: each parent, the plain average, and the base where it is none of the parents.
        out: a file for the response matrix (`Responses.save`), written after each model. Models that it holds already
            are not scored again.
        force: whether they are, and their rows replaced.
        batch_size: instead of the configuration's.
        device: instead of the configuration's.
        allow_unsafe_code: instead of the configuration's.
        progress: called with (parts done, parts in all), a few times for each model.
        note: called with a sentence about each thing that takes a while.

    Returns:
        Each model's score on all items and on those that the search never saw, the response matrix, and with both
        `winner` and `parents` the winner's paired difference from the best parent of each task on the unseen items.

    Raises:
        ConfigError: with every mistake of the configuration; if `out` holds other items or models.
        RunError: if the folder is no run, has no winner yet, or `out` cannot be written.
        EvaluationError: if a model cannot be scored.
    """
    from evomerge.workflows.full_evaluation import evaluate_full as run

    return run(
        target,
        winner=winner,
        parents=parents,
        out=out,
        force=force,
        batch_size=batch_size,
        device=device,
        allow_unsafe_code=allow_unsafe_code,
        progress=progress,
        note=note,
    )


def responses(run_dir: str | Path) -> Responses:
    """Return who answered what in a run: baselines and candidates on the items of all splits; NaN: not scored."""
    from evomerge.workflows.responses import responses as read

    return read(run_dir)


def report(
    runs: Sequence[str | Path] | str | Path,
    *,
    out: str | Path | None = None,
    figures: str | Path | None = None,
    kind: str = "svg",
    only: Sequence[str] = (),
    theme: str = "auto",
    strict: bool = False,
    note: Note | None = None,
) -> WrittenReport:
    """Write what runs found as one HTML page, or its figures as pictures; no model, task or network is needed for it.

    Args:
        runs: the run's folder, or several, or folders that hold runs; another process may be running them. Several are
            overlaid, and those of one configuration stand together as seeds.
        out: the file of the page. None: `report.html` in the run, or in the folder that all runs stand in; no page
            where `figures` is given. Nothing but an earlier report is replaced.
        figures: the folder to which each figure is written, and its table as CSV; None: none.
        kind: of the pictures, "svg" or "png".
        only: names of figures; none: all.
        theme: "light", "dark", or "auto": what the reader's system asks for (light in pictures).
        strict: whether the error of a figure is raised, rather than shown in its place.
        note: called with a sentence about what takes long.

    Returns:
        The files, the keys of the figures, and a sentence about each run that could not be read (the others are shown).

    Raises:
        RunError: if a folder is no run, no run can be read, or a file is in the way.
        ConfigError: if there is no such figure, format or theme.
    """
    from evomerge.workflows.report import write_report

    paths = [runs] if isinstance(runs, str | Path) else list(runs)
    return write_report(paths, out=out, figures=figures, kind=kind, only=only, theme=theme, strict=strict, note=note)


def dashboard(
    folder: str | Path = "outputs",
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    open_browser: bool = False,
    say: Note | None = None,
) -> None:
    """Serve pages over all runs of a folder, which follow running searches, until Ctrl-C. Nothing is written.

    Args:
        folder: where the runs are; those in folders below it count, links are not followed.
        host: the address to listen at; another one than loopback needs a token.
        port: None: 8420, or the next one that is free; 0: any that is free.
        token: what a reader must know, at least 16 letters; "auto": one is made; None: nothing.
        open_browser: whether the list is shown in the browser.
        say: called with a sentence that holds the address, with the token.

    Raises:
        RunError: if there is no such folder, or the port is in use.
        ConfigError: if there is no token where one is needed, or it is too short.
    """
    from evomerge.workflows.dashboard import serve

    serve(folder, host=host, port=port, token=token, open_browser=open_browser, say=say)


def show(target: str | Path | Recipe, *, candidate: int | None = None, out: str | Path | None = None) -> Shown:
    """Draw the layer path of a recipe, or of a run's best merge, as SVG and PNG.

    Args:
        target: a run folder, a recipe (file), or a model folder that holds its `recipe.yaml`.
        candidate: number of another candidate of the run; None: its best merge.
        out: where to write, without a suffix: `out` + ".svg" and ".png"; None: "path" in the folder of the run or of
            the recipe file.

    Returns:
        The path in one line, and the two files.

    Raises:
        RecipeError: if the recipe has no layer path, or cannot be read.
        ExportError: if the run has no such candidate.
        RunError: if the folder is no run, or the files cannot be written.
    """
    from evomerge.workflows.show import show as run

    return run(target, candidate=candidate, out=out)


def log_run(
    run_dir: str | Path,
    to: str,
    options: Mapping[str, Any] | None = None,
    *,
    again: bool = False,
    note: Note | None = None,
) -> dict[str, int]:
    """Send a run to a logger, after or while it is searched: one row for each model that was scored.

    Rows that are there already are not sent twice, whether a search or this function sent them.

    Args:
        run_dir: the run.
        to: the logger: "tensorboard", "trackio", "wandb", "mlflow", or "my_file.py:Class" of your own.
        options: its own; see docs/loggers.md.
        again: whether everything is sent again, to another run there.
        note: called, also by a thread, with where the run is to be seen, and with warnings.

    Returns:
        `rows` of the run, and how many of them were `sent` now.

    Raises:
        ConfigError: if there is no such logger, its library is missing, or an option is wrong.
        RunError: if the folder is no run, or not all rows were sent.
    """
    from evomerge.workflows.loggers import log_run as run

    return run(run_dir, to, options or {}, anew=again, note=note or (lambda _: None))


def estimate(
    responses: str | Path | Responses,
    *,
    calibration: Sequence[str],
    targets: Sequence[str],
    items: int,
    task: str | None = None,
    select: str = "adaptive",
    estimator: str = "mixture",
    parents: Mapping[str, Sequence[str]] | None = None,
    metric: str | None = None,
    level: float = 0.9,
    seed: int = 0,
    note: Note | None = None,
) -> dict[str, dict[str, Any]]:
    """Estimate the mean score of models over all items from a few of their answers that are on file.

    Args:
        responses: a response matrix, or a file or folder of one; see `evomerge.estimation.read_responses`.
        calibration: names of the models on which the estimator is fitted.
        targets: names of the models to estimate.
        items: how many answers of each target are revealed.
        task: use only the items named "task/…"; None: use all.
        select: which items are revealed: "adaptive", "fisher", "greedy", "anchors" …
        estimator: a name of `evomerge.estimation.ESTIMATORS`, or "module:Class" of your own.
        parents: target to the names of its parents, whose rows are used in full.
        metric: the metric to read from lm-eval's sample logs.
        level: probability with which an interval holds the score.
        seed: of every draw.
        note: called with a sentence for each parent that has no responses and is left out.

    Returns:
        Target to its `estimate`, `standard_error`, `interval` [low, high] and the `items` that were revealed.

    Raises:
        EstimationError: if names, numbers or the file are wrong.
    """
    from evomerge.workflows.estimate import estimate as run

    return run(
        responses,
        calibration=calibration,
        targets=targets,
        items=items,
        task=task,
        select=select,
        estimator=estimator,
        parents=parents or {},
        metric=metric,
        level=level,
        seed=seed,
        note=note,
    )


def negative_items(
    responses: str | Path | Responses,
    *,
    models: Sequence[str] | None = None,
    task: str | None = None,
    metric: str | None = None,
) -> dict[str, Any]:
    """Find items that better models fail more often than worse ones: likely a wrong key, or an ambiguous question.

    Args:
        responses: a response matrix, or a file or folder of one; see `evomerge.estimation.read_responses`.
        models: names of the models that are looked at; None: all.
        task: use only the items named "task/…"; None: use all.
        metric: the metric to read from lm-eval's sample logs.

    Returns:
        `tested`, the number of items with enough answers for a test; `below_zero`, how many of these have a negative
        discrimination, most of them by chance; `items`, those of which a test says so (false discovery rate 5 %): each
        with `item`, `discrimination`, `q`, `right` and `models`, the most negative first. See
        `evomerge.estimation.discrimination`.

    Raises:
        EstimationError: if names or the file are wrong.
    """
    from evomerge.workflows.estimate import negative_items as run

    return run(responses, models=models, task=task, metric=metric)


def read_responses(path: str | Path, *, metric: str | None = None) -> Responses:
    """Return the response matrix in a file or folder; see `evomerge.estimation.read_responses`.

    Raises:
        EstimationError: if there is none.
    """
    from evomerge.workflows.estimate import load

    return load(path, metric)


def export(
    run_dir: str | Path,
    out: str | Path,
    *,
    candidate: int | None = None,
    shard_size: int | None = None,
    progress: Progress | None = None,
    verify: bool = True,
    tolerance: float | None = None,
    report: Callable[[ExportReport], None] | None = None,
    answers: bool = True,
    force: bool = False,
    title: str | None = None,
) -> Path:
    """Write the best merge of a run as a Hugging Face folder: weights, config, tokenizer, recipe, model card.

    Args:
        candidate: number of another candidate of the run, such as a further one of its front.
        verify: whether the finished folder is compared with the live model before it appears.
        tolerance: of that comparison; see `evomerge.export.verify.verify`.
        report: called with what is known of the folder: the comparison, what repeated layers cost.
        answers: whether the card shows a few answers, with the items that they answer; a benchmark may not allow it.
        force: whether the folder appears even if its answers to a few prompts of the run's tasks are cut, empty or
            repeating beside its parents'. With `verify=False` no model is loaded, and nothing is asked.
        title: the model's name in its card; None: the name of the folder.

    Raises:
        RunError: if the folder is no run.
        ExportError: if there is no best merge yet, or no such candidate; if the folder cannot be written, fails the
            comparison, or answers worse than each of its parents.
    """
    from evomerge.workflows.export import export as run

    return run(
        run_dir,
        out,
        candidate=candidate,
        shard_size=shard_size,
        progress=progress,
        verify=verify,
        tolerance=tolerance,
        report=report,
        answers=answers,
        force=force,
        title=title,
    )


def export_several(
    run_dir: str | Path,
    out: str | Path,
    *,
    candidates: Sequence[int] = (),
    front: bool = False,
    shard_size: int | None = None,
    progress: Progress | None = None,
    verify: bool = True,
    tolerance: float | None = None,
    report: Callable[[ExportReport], None] | None = None,
    answers: bool = True,
    force: bool = False,
    title: str | None = None,
    note: Note | None = None,
) -> list[Path]:
    """Write several candidates of a run, each as `export` would: to `out`/candidate-3 and so on.

    Parents are opened, checked and prepared once. If one of them cannot be written, the others are.

    Args:
        candidates: their numbers.
        front: whether all that the search chose are written: its front or archive.
        title: the models' name in their cards, before "candidate-3"; None: the name of `out`.
        note: called with a sentence for each folder that appears.

    Returns:
        The folders.

    Raises:
        RunError: if the folder is no run.
        ExportError: with every candidate that could not be written; before anything is written, if there is no such
            candidate, nothing was chosen yet, or a folder is in use.
    """
    from evomerge.workflows.export import export_several as run

    return run(
        run_dir,
        out,
        candidates=candidates,
        front=front,
        note=note,
        title=title,
        shard_size=shard_size,
        progress=progress,
        verify=verify,
        tolerance=tolerance,
        report=report,
        answers=answers,
        force=force,
    )


def extract_lora(
    model: str | Path,
    base: str | Path,
    out: str | Path,
    *,
    rank: int | None = 32,
    error: float = 0.05,
    others: bool = True,
    verify: bool = True,
    progress: Progress | None = None,
) -> ExtractedAdapter:
    """Write what distinguishes a model from its base as a LoRA adapter that PEFT loads, cut to a rank.

    Args:
        model: a model's folder or Hub id (`org/name@revision`), such as an exported merge.
        base: the model that the adapter lies on, of the same shape.
        out: the folder to make; it must not exist, or be empty.
        rank: the rank of each matrix' difference; None: as small as `error` allows, matrix by matrix.
        error: largest relative error (Frobenius) of a matrix' difference, where there is no rank.
        others: whether norms, tied embeddings and what else has no low rank are stored whole where they differ.
        verify: whether logits of base and adapter are compared with the model's.
        progress: called with (tensors done, tensors in all).

    Returns:
        The folder, and the error of each tensor and in total.

    Raises:
        ExportError: if the models are of different shapes or equal, or the folder cannot be written.
        CheckpointError: if a model cannot be read.
    """
    from evomerge.workflows.formats import extract_lora as run

    return run(model, base, out, rank=rank, error=error, others=others, verify=verify, progress=progress)


def further_formats(
    run_dir: str | Path,
    out: str | Path,
    *,
    candidates: Sequence[int] = (),
    front: bool = False,
    lora: int | None = None,
    gguf: str | None = None,
    llama_cpp: str | Path | None = None,
    note: Note,
) -> Callable[[Progress], None]:
    """Return what writes the folders of an export in further formats beside them, each named as what it is.

    What can be checked before the export is: the base, llama.cpp's tools, the folders.

    Args:
        out: as in `export` or `export_several`; so are `candidates` and `front`.
        lora: the rank of an adapter on the recipe's base, in `out`-lora-rRANK; None: none.
        gguf: the type of a GGUF file, in `out`-TYPE-GGUF; None: none.
        llama_cpp: as in `to_gguf`.
        note: called with a sentence for each.

    Raises:
        RunError: if the folder is no run.
        ExportError: if there is no base or no llama.cpp, or a folder is in use.
    """
    from evomerge.workflows.formats import further_formats as run

    return run(run_dir, out, candidates=candidates, front=front, lora=lora, gguf=gguf, llama_cpp=llama_cpp, note=note)


def to_gguf(
    model: str | Path,
    kind: str,
    out: str | Path,
    *,
    llama_cpp: str | Path | None = None,
    name: str | None = None,
    note: Note | None = None,
) -> Path:
    """Write a model as a GGUF file, by the llama.cpp of the user; it is read back before it appears.

    Args:
        model: a model's folder or Hub id, such as an exported merge.
        kind: the type of most weights: f32, f16, bf16, or that of a quantised copy: q8_0, Q4_K_M, …
        out: the folder to make; it must not exist, or be empty.
        llama_cpp: llama.cpp's folder; None: that of the variable LLAMA_CPP, else what is on the PATH.
        name: what the model is called in the file's name and card; None: the last part of its folder.
        note: called with a sentence before each of llama.cpp's programs runs.

    Returns:
        The file.

    Raises:
        ExportError: if llama.cpp is missing or fails, or its file does not hold the model.
        CheckpointError: if the model cannot be read.
    """
    from evomerge.workflows.formats import to_gguf as run

    return run(model, kind, out, llama_cpp=llama_cpp, name=name, note=note)


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
    note: Note | None = None,
) -> Verification:
    """Compare a saved checkpoint with the live model of a recipe, on random and given prompts, in float32.

    Args:
        target: a recipe (file), or a run folder (its best merge).
        folder: the checkpoint.
        prompts: texts; further arguments as in `evomerge.export.verify.verify`.
        note: called with a sentence about what is downloaded.

    Returns:
        Largest relative difference of logits, share of equal greedy tokens, and whether they pass.

    Raises:
        RunError: if the run has no best merge yet.
        ExportError: if the folder cannot be loaded.
        CheckpointError, RecipeError: if the recipe cannot be built.
    """
    from evomerge.workflows.verify import verify as run

    return run(
        target,
        folder,
        prompts=prompts,
        n_random=n_random,
        length=length,
        new_tokens=new_tokens,
        seed=seed,
        tolerance=tolerance,
        device=device,
        note=note,
    )


def push(
    run_dir: str | Path,
    repo_id: str,
    *,
    private: bool = True,
    dry_run: bool = False,
    token: str | None = None,
    answers: bool = True,
    branch: str | None = None,
    overwrite: bool = False,
    pull_request: bool = False,
    candidates: Sequence[int] = (),
    front: bool = False,
    several: str = "branches",
    force: bool = False,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Pushed]:
    """Upload merges of a run, or a folder made by `export`, to the Hub; each is one commit.

    Token, account and repository are checked, and made where they are missing, before anything is built. A push that
    was interrupted is repeated by the same call, which sends what is missing.

    Args:
        run_dir: the run, or the folder.
        repo_id: "org/name", or "name" for the token's own account.
        private: whether a repository that is made is private; one that is there must be.
        dry_run: whether to say what would go, without building it: the Hub is asked, where it can be, and nothing sent.
        token: the Hub's token, which is never printed; None: from HF_TOKEN or the login of the Hub's own command.
        answers: of a run: as in `export`.
        branch: the branch; None: `main`.
        overwrite: whether a commit may put these files in the place of others that are there; its history keeps them.
        pull_request: whether the commit is proposed as a pull request.
        candidates: numbers of candidates of the run; empty: its best merge.
        front: whether all merges go with which the search ended, its front or archive.
        several: how several merges are published: as "branches" of one repository, the chosen one on `main`, or as a
            "collection" of repositories.
        force: of a run: as in `export`.
        say: called with a sentence at each step.
        progress: called with (steps done, steps in all) while a merge is built.

    Returns:
        What was (or would be) uploaded, a merge each, the chosen one first.

    Raises:
        RunError: if the folder is no run.
        ExportError: if there is no such merge, the folder is no model, the repository holds something else, or the Hub
            refuses it or is out of reach.
    """
    from evomerge.workflows.push import PushOptions
    from evomerge.workflows.push import push as run

    options = PushOptions(private, dry_run, token, branch, overwrite, pull_request, answers, force)
    return run(
        run_dir,
        repo_id,
        options,
        candidates=candidates,
        front=front,
        several=several,
        say=say or (lambda _: None),
        progress=progress,
    )


__all__ = [
    "Against",
    "Limit",
    "Listener",
    "Moment",
    "Record",
    "Run",
    "Score",
    "Split",
    "StopSignal",
    "TaskGain",
    "Watch",
    "Works",
    "answers",
    "dashboard",
    "estimate",
    "evaluate",
    "evaluate_full",
    "evaluate_run",
    "export",
    "export_several",
    "extract_lora",
    "further_formats",
    "inspect",
    "log_run",
    "measures",
    "merge",
    "method",
    "methods",
    "profile",
    "push",
    "records",
    "report",
    "responses",
    "resume",
    "runs_in",
    "save_answers",
    "search",
    "show",
    "space",
    "status",
    "sweep_summary",
    "to_gguf",
    "verify",
    "watch",
]
