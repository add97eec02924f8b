"""Full evaluation: all items of a configuration's tasks rather than one split, for parents and for a search's winner.

An item of a split has the same prompt here as in the search, with the same few-shot examples. The response matrix can
be kept in a file, which is continued model by model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.analysis.skills import skill
from evomerge.assembly.inputs import recipe_contents
from evomerge.assembly.model_settings import template_lacking
from evomerge.assembly.prepare import Prepared, prepare
from evomerge.assembly.warm_up import Settled, settle_threads, settled_of
from evomerge.assembly.workers import include_paths, own_threads
from evomerge.errors import ConfigError, EstimationError, EvaluationError, RunError
from evomerge.estimation.responses import Responses
from evomerge.evaluation.contents import ASPECTS, LENGTH
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.intervals import mean_score
from evomerge.evaluation.item_values import metric_key
from evomerge.evaluation.measures.registry import find_measure
from evomerge.evaluation.subset import Drawn
from evomerge.evaluation.task import FOREIGN_SCRIPT, NEGATIVE_FLIPS, Direction, TaskSpec
from evomerge.merge.live.models import LiveModels
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Score, Split
from evomerge.store.run_dir import RunDir
from evomerge.system.contents import digest_of
from evomerge.system.text import command
from evomerge.workflows import tell
from evomerge.workflows.same_models import refuse_other_models


@dataclass(frozen=True)
class TaskColumn:
    """A task whose items are scored, by one metric.

    Attributes:
        source: the lm-eval task.
        filter: the filter of the metric, as the configuration says.
        items: all documents of the task.
        splits: document to its split; documents in no split are left out.
        direction: which values are better.
        named_by: the lm-eval tasks whose validation items, else search items, say which parent is best at it.
    """

    source: str
    metric: str
    filter: str | None
    items: range
    splits: Mapping[int, Split]
    direction: Direction | None = None
    named_by: tuple[str, str] = ("", "")

    @property
    def label(self) -> str:
        """The metric with its filter."""
        return self.metric if self.filter is None else f"{self.metric},{self.filter}"

    def seen(self, split: Split) -> int:
        """Return how many of the items are in a split."""
        return sum(one == split for one in self.splits.values())


@dataclass(frozen=True)
class FullScore:
    """A model on all items of a task.

    Attributes:
        everything: the score over all items.
        unseen: the score over the items that neither the search nor the choice among finalists saw; None if none are
            left.
    """

    everything: Score
    unseen: Score | None


@dataclass(frozen=True)
class FullResult:
    """Models on all items.

    Attributes:
        columns: the tasks.
        scores: model to one score for each of `columns`.
        responses: the matrix; the file may hold further models.
        searched: whether a search took place, so that some items were seen.
        skills: for each of `columns` the winner against the parent that is best at it, on the unseen items (see
            `evomerge.analysis.skills.skill`); empty unless the winner and the parents were scored.
    """

    columns: tuple[TaskColumn, ...]
    scores: Mapping[str, tuple[FullScore, ...]]
    responses: Responses
    searched: bool
    skills: tuple[Mapping[str, Any], ...] = ()

    def to_data(self) -> dict[str, Any]:
        """Return the result as JSON data: `tasks` and `models`, each with one entry per task.

        With `skills`, each of `tasks` has them as `against_best_parent`.
        """
        tasks: list[dict[str, Any]] = [
            {
                "task": column.source,
                "metric": column.label,
                "items": len(column.items),
                **{f"{split}_items": column.seen(split) if self.searched else 0 for split in Split},
            }
            for column in self.columns
        ]
        models = {
            name: [
                {"all": one.everything.to_data(), "unseen": None if one.unseen is None else one.unseen.to_data()}
                for one in row
            ]
            for name, row in self.scores.items()
        }
        for task, one in zip(tasks, self.skills, strict=False):
            task["against_best_parent"] = {key: value for key, value in one.items() if key not in ("task", "metric")}
        return {"tasks": tasks, "models": models}


def evaluate_full(
    target: str | Path | Mapping[str, Any],
    *,
    winner: bool,
    parents: bool,
    out: str | Path | None = None,
    force: bool = False,
    batch_size: int | None = None,
    device: str | None = None,
    allow_unsafe_code: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> FullResult:
    """Score models on all items of a configuration's tasks; see `evomerge.api.evaluate_full`."""
    if not winner and not parents:
        raise ConfigError("nothing to score: ask for the winner, the parents, or both")
    recorded, best, before = None, None, None
    used: dict[str, ModelSource] = {}
    if isinstance(target, Mapping):
        data = dict(target)
    else:
        with RunDir.open(target) as run:
            data, recorded, before = run.config, run.database.splits(), settled_of(run.database)
            used = {} if run.inputs is None else {name: one.source for name, one in run.inputs.models.items()}
            best = _best(run) if winner else None
            refuse_other_models(
                run,
                [*([best[1]] if best is not None else []), *(_parents(run) if parents else [])],
                "these would be the scores of other models",
                f"score what is there now by its own configuration (--all-parents) or recipe: {run.best_path}",
            )
    if winner and best is None:
        raise ConfigError(
            "only a run has a winner to evaluate on all items (--full); a configuration has none yet: name a run folder"
        )
    if device is not None:
        data["execution"] = {**(data.get("execution") or {}), "device": device}
    if batch_size is not None:
        data["evaluation"] = {**(data.get("evaluation") or {}), "batch_size": batch_size}
    if allow_unsafe_code is not None:
        data["evaluation"] = {**(data.get("evaluation") or {}), "allow_unsafe_code": allow_unsafe_code}
    if note is not None:
        note("checking models and tasks")
    splits = {"seed": data.get("seed", 0), "tasks": recorded} if recorded else None
    prepared = prepare(data, recorded_splits=splits, known=used, note=note)
    tell([one.text for one in prepared.cautions], note)
    models = {**(_models(prepared, note) if parents else {}), **({best[0]: best[1]} if best is not None else {})}
    columns = _columns(prepared)
    rest = _rest(prepared, columns)
    known = {name: recipe.content_hash for name, recipe in models.items()}
    if out is not None:  # a file may be continued after a model, a label or a prompt has changed
        asked = _asked([prepared.harness, *([rest] if rest is not None else [])])
        contents = recipe_contents(models.values())
        known = {
            name: f"{known[name]}:{digest_of([asked, one])[:16]}" for name, one in zip(models, contents, strict=True)
        }
    found = _continued(out, columns, known, force)
    missing = {name: recipe for name, recipe in models.items() if found.row(name) is None or force}
    if note is not None and len(missing) < len(models):
        note(f"already in {out}: {', '.join(name for name in models if name not in missing)}")
    if missing:
        found = _score(missing, known, prepared, rest, columns, found, out, before, progress, note)
    scores = {name: _summary(columns, found, name, recorded is not None) for name in models}
    skills = _skills(prepared, columns, found, best[0]) if best is not None and parents else ()
    return FullResult(columns, scores, found, recorded is not None, skills)


def _best(run: RunDir) -> tuple[str, Recipe]:
    choice = run.database.choice()
    record = None if choice is None else run.database.record(choice.best)
    if record is None:
        raise RunError(f"the run {run.path} has no winner yet; continue it with `{command('resume', run.path)}`")
    return record.name, record.recipe


def _parents(run: RunDir) -> Iterator[Recipe]:
    """Yield the baselines and the base of a run, as its inputs name them."""
    for model in [] if run.inputs is None else run.inputs.models.values():
        yield Recipe("linear", (Parent("model", model.source),))


def _models(prepared: Prepared, note: Callable[[str], None] | None) -> dict[str, Recipe]:
    """Return the baselines of a search, and the base unless it is one of the parents or cannot answer in a chat."""
    models = prepared.config.models
    found = dict(prepared.baselines)
    if models.base is not None and all(models.base.source != parent.source for parent in models.parents):
        base = Recipe("linear", (Parent("base", models.base.source),), dtype=models.dtype, seed=prepared.config.seed)
        lacking = template_lacking(prepared.config.evaluation.chat, base, prepared.sources)
        if lacking is not None:
            tell([f"the base has {lacking}, so it is left out"], note)
        else:
            found["base"] = base  # a name that no parent may have
    return found


def _measured(prepared: Prepared) -> list[TaskSpec]:
    """Return the entries to measure of one model.

    Negative flips, which compare two models, become the metric that they compare; foreign scripts are left out.
    """
    specs = [spec for spec in prepared.config.evaluation.tasks if spec.metric != FOREIGN_SCRIPT]
    return [replace(spec, metric=spec.of or spec.metric) if spec.metric == NEGATIVE_FLIPS else spec for spec in specs]


def _columns(prepared: Prepared) -> tuple[TaskColumn, ...]:
    tasks = prepared.harness.split_data()["tasks"]
    found: dict[tuple[str, str], TaskColumn] = {}
    for spec, direction in zip(_measured(prepared), _directions(prepared), strict=True):
        drawn = {split: Drawn.from_data(tasks[spec.name][str(split)]) for split in Split}
        for source in spec.sources:
            mine = {split: one for split, one in drawn.items() if one.source == source}
            column = TaskColumn(
                source,
                spec.metric,
                spec.filter,
                range(next(iter(mine.values())).n_docs),
                {item: split for split, one in mine.items() for item in one.items},
                direction,
                (spec.source(Split.VALIDATION), spec.name),
            )
            # Tasks may share a test task; an item that any of them searched on counts as searched on.
            earlier = found.get((source, column.label))
            splits = {} if earlier is None else {**column.splits, **earlier.splits}
            found[source, column.label] = column if earlier is None else replace(earlier, splits=splits)
    return tuple(found.values())


def _directions(prepared: Prepared) -> list[Direction | None]:
    """Return which values of each of `_measured` are better."""
    specs = [spec for spec in prepared.harness.specs if spec.metric != FOREIGN_SCRIPT]
    return ["maximize" if spec.metric == NEGATIVE_FLIPS else spec.direction for spec in specs]


def _rest(prepared: Prepared, columns: Sequence[TaskColumn]) -> LmHarness | None:
    """Return a harness over the documents that are in no split, or None if there are none.

    As in the search, few-shot examples come from the items of the task's earliest split.
    """
    evaluation = prepared.config.evaluation
    specs: dict[str, TaskSpec] = {}
    resolved_specs = [spec for spec in prepared.harness.specs if spec.metric != FOREIGN_SCRIPT]
    for spec, resolved in zip(_measured(prepared), resolved_specs, strict=True):
        for source in spec.sources:
            n_shots, settings = spec.num_fewshot, spec.generation
            one = TaskSpec(
                source,
                spec.metric,
                spec.filter,
                direction=resolved.direction,
                num_fewshot=n_shots,
                generation=settings,
            )
            earlier = specs.setdefault(source, one)
            for key, mine, others in (
                ("num_fewshot", n_shots, earlier.num_fewshot),
                ("generation", settings, earlier.generation),
            ):
                if mine != others:
                    raise ConfigError(
                        f"task {source!r} is used with {key}={others} and {mine}; all of its items can be scored with "
                        "one of them only"
                    )
    splits = {}
    for name in specs:
        column = next(column for column in columns if column.source == name)
        first = next((split for split in Split if column.seen(split)), None)
        shots = tuple(item for item in column.items if first is not None and column.splits.get(item) == first)
        rest = tuple(item for item in column.items if item not in column.splits)
        parts = {Split.SEARCH: shots, Split.VALIDATION: rest, Split.TEST: ()}
        splits[name] = {str(split): Drawn(name, len(column.items), parts[split]).to_data() for split in Split}
    if not any(splits[name][str(Split.VALIDATION)]["items"] for name in splits):
        return None
    harness = LmHarness(
        list(specs.values()),
        sizes=evaluation.split,
        seed=prepared.config.seed,
        include_path=include_paths(evaluation.include_path),
        batch_size=evaluation.batch_size,
        chat=evaluation.chat,
        allow_unsafe_code=evaluation.allow_unsafe_code,
        recorded_splits={"seed": prepared.config.seed, "tasks": splits},
        engine=evaluation.engine,
        # Each task is listed once with its first metric, since all its own metrics are taken anyway.
        measures=[spec.metric for spec in evaluation.tasks if find_measure(spec.metric) is not None],
    )
    harness.share_engine(prepared.harness)
    return harness


def _continued(
    out: str | Path | None, columns: Sequence[TaskColumn], known: Mapping[str, str], force: bool
) -> Responses:
    """Return the matrix that the file holds, or an empty one; mistakes are found before a model is scored.

    Args:
        out: the file.
        columns: the tasks.
        known: model to what its row is known by: the hash of its recipe, and of what it and the items consist of.
        force: whether rows of other models are replaced.
    """
    columns_of = [(column, item) for column in columns for item in column.items]
    empty = Responses(
        models=(),
        items=tuple(f"{column.source}/{item}" for column, item in columns_of),
        metric=tuple(column.label for column, _ in columns_of),
        R=np.empty((0, len(columns_of))),
        split=tuple(str(column.splits.get(item, "")) for column, item in columns_of),
    )
    if out is None:
        return empty
    if not Path(out).expanduser().parent.is_dir():
        raise ConfigError(f"the responses cannot be written to {out}: its folder does not exist; make it first")
    if not Path(out).expanduser().exists():
        return empty
    try:
        found = Responses.load(out)
    except EstimationError as error:
        raise RunError(f"the responses cannot be continued: {error}; name another file with --out") from error
    if (found.items, found.metric) != (empty.items, empty.metric):
        raise ConfigError(
            f"{out} holds {len(found.items)} items that are not the {len(empty.items)} of this configuration's tasks "
            "and metrics; name another file with --out"
        )
    held = dict(zip(found.models, found.recipes, strict=True))
    differ = [name for name, one in known.items() if name in held and held[name] != one]
    others = [name for name in differ if held[name].partition(":")[0] != known[name].partition(":")[0]]
    if differ and not others and not force:
        raise ConfigError(
            f"{out} holds answers of {', '.join(differ)} from before the models' files, the items, their prompts or "
            "their labels changed; name another file with --out, or score them again with --force"
        )
    if others and not force:
        raise ConfigError(
            f"{out} holds other models under the names {', '.join(others)}; name another file with --out, or replace "
            "them with --force"
        )
    return replace(found, split=empty.split)


def _asked(harnesses: Iterable[LmHarness]) -> str:
    """Return a hash of what all items ask and of what answers to them are worth, in whichever split they are."""
    items: dict[str, list[str]] = {}
    scoring: dict[str, Any] = {}
    for harness in harnesses:
        contents = harness.contents(keep=tuple(Split))
        scoring |= contents["scoring"]
        for split in Split:
            for task, numbers in harness.split_items(split).items():
                one = contents["items"][task][str(split)]
                for i, item in enumerate(numbers):
                    own = [one[aspect][i * LENGTH : (i + 1) * LENGTH] for aspect in ASPECTS]
                    items[f"{one['source']}/{item}"] = own
    return digest_of([items, scoring])


@own_threads()
def _score(
    models: Mapping[str, Recipe],
    known: Mapping[str, str],
    prepared: Prepared,
    rest: LmHarness | None,
    columns: Sequence[TaskColumn],
    found: Responses,
    out: str | Path | None,
    before: Settled | None,
    progress: Callable[[int, int], None] | None,
    note: Callable[[str], None] | None,
) -> Responses:
    """Score models and return the matrix with their rows; the file is written after each model."""
    if note is not None:
        note("loading the parents")
    live = prepared.live_models()
    evaluation = prepared.config.evaluation
    how: dict[str, Any] = {
        "items": len(found.items),
        "batch_size": evaluation.batch_size,
        "engine": evaluation.engine,
        "before": before,
    }
    parts = len(prepared.splits) + (rest is not None)
    done = 0
    try:
        for name, recipe in models.items():
            if note is not None:
                note(f"scoring {name} on {len(found.items)} items")
            live.write(recipe)
            if done == 0:
                settle_threads(live, prepared.harness, prepared.config.execution.threads, **how)
            answers: dict[tuple[str, int], Mapping[str, float]] = {}
            for scores, source in _parts(prepared, rest, live):
                answers.update({(source(score.task), score.item): score.metrics for score in scores})
                done += 1
                if progress is not None:
                    progress(done, parts * len(models))
            found = found.with_row(name, known[name], _row(columns, answers))
            if out is not None:
                found.save(out)
    finally:
        prepared.harness.release()
    return found


def _parts(
    prepared: Prepared, rest: LmHarness | None, live: LiveModels
) -> Iterator[tuple[Sequence[ItemScore], Callable[[str], str]]]:
    """Yield the scores of one part of the items after another, each with a function from a task to lm-eval's task.

    A split is scored as the search scores it: lm-eval draws few-shot examples document by document, so that a prompt
    depends on the other documents that are asked.
    """
    specs = {spec.name: spec for spec in prepared.config.evaluation.tasks}
    for split in prepared.splits:
        scores = prepared.harness.score(live.model, live.tokenizer, split)
        yield scores, lambda task, split=split: specs[task].source(split)  # type: ignore[misc]
    if rest is not None:
        yield rest.score(live.model, live.tokenizer, Split.VALIDATION), str


def _row(columns: Sequence[TaskColumn], answers: Mapping[tuple[str, int], Mapping[str, float]]) -> NDArray[np.float64]:
    """Return the values of all items; NaN: not judged."""
    row: list[float] = []
    for column in columns:
        for item in column.items:
            metrics = answers[column.source, item]
            key = metric_key(column.metric, column.filter, metrics)
            row.append(math.nan if key is None else float(metrics[key]))
        if all(map(math.isnan, row[-len(column.items) :])):
            raise EvaluationError(
                f"task {column.source!r}: none of its {len(column.items)} items has a value of {column.label!r}"
            )
    return np.array(row)


def _summary(columns: Sequence[TaskColumn], found: Responses, name: str, searched: bool) -> tuple[FullScore, ...]:
    scores = []
    for column, judged in zip(columns, _by_column(columns, found, name), strict=True):
        unseen = [value for item, value in judged.items() if _unseen(column, item)]
        everything = mean_score(list(judged.values()))
        scores.append(FullScore(everything, mean_score(unseen) if searched and unseen else None))
    return tuple(scores)


def _skills(
    prepared: Prepared, columns: Sequence[TaskColumn], found: Responses, winner: str
) -> tuple[Mapping[str, Any], ...]:
    """Return for each column the winner against the parent that is best at it, on the items that nobody saw before."""
    names = [parent.name for parent in prepared.config.models.parents]
    values = {name: _by_column(columns, found, name) for name in (*names, winner)}
    skills = []
    for i, column in enumerate(columns):
        parent, by = _best_parent(columns, column, {name: values[name] for name in names})
        unseen = {
            name: {item: value for item, value in own[i].items() if _unseen(column, item)}
            for name, own in values.items()
        }
        spec = TaskSpec(column.source, column.metric, column.filter, direction=column.direction)
        skills.append(skill(spec, parent, by, "unseen", unseen[winner], {} if parent is None else unseen[parent]))
    return tuple(skills)


def _best_parent(
    columns: Sequence[TaskColumn], column: TaskColumn, values: Mapping[str, Sequence[Mapping[int, float]]]
) -> tuple[str | None, Split | None]:
    """Return the parent with the best mean on the validation items of a column's task, else on its search items."""
    sign = -1.0 if column.direction == "minimize" else 1.0
    for source, split in zip(column.named_by, (Split.VALIDATION, Split.SEARCH), strict=True):
        place = next((i for i, c in enumerate(columns) if (c.source, c.label) == (source, column.label)), None)
        if place is None:
            continue
        means = {}
        for name, own in values.items():
            mine = [value for item, value in own[place].items() if columns[place].splits.get(item) == split]
            if mine:
                means[name] = sign * math.fsum(mine) / len(mine)
        if means:
            return max(means, key=lambda name: means[name]), split
    return None, None


def _by_column(columns: Sequence[TaskColumn], found: Responses, name: str) -> list[dict[int, float]]:
    """Return for each column the values of a model's items; items that are not judged are left out."""
    row = found.row(name)
    assert row is not None, f"{name} was scored"
    made, start = [], 0
    for column in columns:
        mine = row[start : start + len(column.items)].tolist()
        start += len(column.items)
        made.append({item: value for item, value in zip(column.items, mine, strict=True) if not math.isnan(value)})
    return made


def _unseen(column: TaskColumn, item: int) -> bool:
    return column.splits.get(item) not in (Split.SEARCH, Split.VALIDATION)
