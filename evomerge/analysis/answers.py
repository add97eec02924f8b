"""Models' answers side by side, from the run alone: which items were gained and lost, and what was said there.

Names: `winner` (while the search goes on: the best so far), a baseline's name, `candidate 17` or `17`, `consensus`.
What the run itself calls so comes first; `parent:NAME` is a baseline in any case.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.analysis.skills import Skills, own_entries
from evomerge.analysis.verdict import best_parent, objective_of
from evomerge.errors import RunError
from evomerge.evaluation.item_values import metric_key
from evomerge.evaluation.task import TaskSpec
from evomerge.record import ItemAnswer, ItemPrompt, ItemScore, Record, Split, State, best_scored
from evomerge.store.run_dir import RunDir
from evomerge.store.status import run_status
from evomerge.system.text import ERROR_LENGTH, cut, visible

WINNER, PARENT = "winner", "parent:"

KINDS = ("lost", "gained", "wrong", "right", "equal", "not judged")
"""What became of an item, in the order in which items are shown: the first model is worse or better than the second;
both have it wrong, or right; or equally good, where nothing says what is right; or one of them has no score."""


@dataclass(frozen=True)
class ModelAnswer:
    """What one model answered to an item.

    Attributes:
        answer: what it answered.
        scores: metric to score.
        score: the metric by which the task counts; None: the item has none.
        right: whether that is the best there is; None: nothing says what is right, as for a number of tokens.
    """

    answer: ItemAnswer
    scores: Mapping[str, float]
    score: float | None = None
    right: bool | None = None


@dataclass(frozen=True)
class AnsweredItem:
    """An item with what models answered to it.

    Attributes:
        task: the task's name in the configuration.
        item: index of the item.
        split: the split that it belongs to.
        prompt: what was asked of the first model; None: that was not kept.
        answers: by the model's name as it was asked for, the first model first.
        kind: what became of the item, one of `KINDS`; without a second model never "lost" or "gained".
        metric: the metric by which the task counts, and its filter.
        direction: which of its values are better, "maximize" or "minimize".
    """

    task: str
    item: int
    split: Split
    prompt: ItemPrompt | None
    answers: Mapping[str, ModelAnswer]
    kind: str
    metric: tuple[str, str | None] = ("", None)
    direction: str = "maximize"

    @property
    def question(self) -> str | None:
        """The prompt as text."""
        return None if self.prompt is None else str(self.prompt.requests[0][0])

    @property
    def options(self) -> list[str] | None:
        """The answers between which a model chooses; None: it writes its own, or the prompt was not kept."""
        requests = [] if self.prompt is None else list(self.prompt.requests)
        if len(requests) < 2 or not all(len(one) > 1 and isinstance(one[1], str) for one in requests):
            return None
        half = len(requests) // 2
        again = half > 1 and [one[1] for one in requests[:half]] == [one[1] for one in requests[half:]]
        if again and all(one[0] != other[0] for one, other in zip(requests[:half], requests[half:], strict=True)):
            requests = requests[:half]  # asked a second time without the question, for mutual information
        which = 1 if len({one[1] for one in requests}) > 1 else 0
        return [str(one[which]).strip() for one in requests]

    @property
    def target(self) -> Any:
        """The right answer, as text where it is an option; else as the task says it."""
        target, options = None if self.prompt is None else self.prompt.target, self.options
        if isinstance(target, int) and not isinstance(target, bool) and options and 0 <= target < len(options):
            return options[target]
        return target

    def text(self, name: str) -> str | None:
        """Return what a model answered: its text, or the option that it found likeliest; None: neither is known."""
        responses = self.answers[name].answer.responses
        if responses and isinstance(responses[0], str):
            return "\n".join(str(one) for one in responses)
        options = self.options
        if not options:
            return None
        values = [one[0] if isinstance(one, (list, tuple)) else one for one in responses[: len(options)]]
        values = [-math.inf if not isinstance(one, (int, float)) or math.isnan(one) else one for one in values]
        return options[max(range(len(values)), key=lambda i: values[i])] if values else None

    def filtered(self, name: str) -> Any:
        """Return what the filter made of a model's answer by which the task counts; None: nothing else."""
        answer = self.answers[name].answer
        found = answer.filtered.get(self.metric[1] or next(iter(answer.filtered), ""), answer.responses)
        if not found or list(found) == list(answer.responses) or not isinstance(answer.responses[0], str):
            return None
        return found[0] if len(found) == 1 else list(found)

    def to_data(self) -> list[dict[str, Any]]:
        """Return the lines that `evomerge answers --json` prints, one for each model."""
        return [
            {
                "task": self.task,
                "item": self.item,
                "split": str(self.split),
                "model": name,
                "kind": self.kind,
                "prompt": self.question,
                "answer": self.text(name),
                "filtered": dict(one.answer.filtered),
                "responses": list(one.answer.responses),
                "options": self.options,
                "target": self.target,
                "right": one.right,
                "scores": dict(one.scores),
            }
            for name, one in self.answers.items()
        ]


def answered_items(
    run: RunDir,
    names: Sequence[str],
    *,
    split: Split | None = None,
    tasks: Sequence[str] = (),
    item: int | None = None,
    beside: Mapping[str, str] | None = None,
) -> list[AnsweredItem]:
    """Return the items that the first model answered, those that it lost to the second first (see `KINDS`).

    Args:
        run: the run.
        names: the models, at least one; of others than the first answers to the same items are returned.
        split: the split; None: the last one on which answers of all of them are kept.
        tasks: these tasks only; none: all.
        item: this item only.
        beside: task to the only one of the models that stands beside the first one there; tasks that are not named have
            all of them.

    Raises:
        RunError: if the run has no such model, task or item, or a model's answers are not kept; the message says which
            there are.
    """
    records = {name: model_named(run, name) for name in names}
    chosen = split or _last_common(run, records)
    tables = run.database.answers
    found = {
        name: {(one.task, one.item): one for one in tables.of(record.number, chosen)}
        for name, record in records.items()
    }
    for name, own in found.items():
        if not own:
            raise RunError(_why_none(run, name, records[name], chosen))
    first = names[0]
    known = list(dict.fromkeys(task for task, _ in found[first]))
    unknown = [task for task in tasks if task not in known]
    if unknown:
        raise RunError(f"there are no answers to the task {unknown[0]!r}, but to {', '.join(map(repr, known))}")
    wanted = [key for key in found[first] if (not tasks or key[0] in tasks) and item in (None, key[1])]
    if item is not None and not wanted:
        some = ", ".join(str(number) for _, number in list(found[first])[:20])
        raise RunError(f"item {item} is none of the {chosen} items that {first} answered; these are {some} …")
    prompts = tables.prompts(records[first].number, chosen)
    scores = {
        name: {(one.task, one.item): one for one in run.database.item_scores(record.number, chosen)}
        for name, record in records.items()
    }
    counted = {task: _counted(run, task, [own for one in scores.values() for own in one.values()]) for task in known}
    shares = {task: _is_share(counted[task], task, scores.values()) for task in known}
    rows = []
    for key in wanted:
        answers = {
            name: _model_answer(own[key], scores[name].get(key), counted[key[0]], share=shares[key[0]])
            for name, own in found.items()
            if key in own and name in (first, (beside or {}).get(key[0], name))
        }
        spec = counted[key[0]]
        direction = spec.direction or "maximize"
        kind = kind_of(list(answers.values()), direction)
        metric = (spec.metric, spec.filter)
        rows.append(AnsweredItem(*key, chosen, prompts.get(key), answers, kind, metric, direction))
    place = {task: i for i, task in enumerate(known)}
    return sorted(rows, key=lambda row: (KINDS.index(row.kind), place[row.task], row.item))


def best_parents(run: RunDir, tasks: Sequence[str] = ()) -> dict[str, str]:
    """Return the parent that is best at each task, as `parent:NAME`; tasks of which none is known are left out.

    Args:
        run: the run.
        tasks: these tasks only; none: all.
    """
    objectives = objective_of(run)
    if objectives is None:
        return {}
    skills = Skills(run, objectives)
    found = {task: skills.best_parent(task)[0] for task in skills.entries if not tasks or task in tasks}
    return {task: f"{PARENT}{record.name}" for task, record in found.items() if record is not None}


def default_models(run: RunDir, task: str | None = None) -> list[str]:
    """Return the winner and the best parent, as far as there are any.

    Args:
        run: the run.
        task: a task, whose own best parent it is then.
    """
    own = {} if task is None else best_parents(run, [task])
    if task in own:
        return [WINNER, own[task]]
    parent, _ = best_parent(run, run_status(run))
    return [WINNER] if parent is None else [WINNER, f"{PARENT}{parent}"]


def model_named(run: RunDir, name: str) -> Record:
    """Return the record of a model.

    Raises:
        RunError: if there is none.
    """
    database = run.database
    found: Record | None = None
    baselines = database.baselines()
    if name.startswith(PARENT):
        found = next((one for one in baselines if one.name == name.removeprefix(PARENT)), None)
    elif name == WINNER:
        choice = database.choice()
        found = best_scored(database.records()) if choice is None else database.record(choice.best)
        if found is None:
            raise RunError(f"the run {run.path} has no scored candidate yet; {_what_there_is(run)}")
    elif number := re.fullmatch(r"(?:candidate )?(\d{1,18})", name):
        found = database.record(int(number[1]))
    if found is None:
        found = next((one for one in (*baselines, *database.records()) if one.name == name), None)
    if found is None:
        raise RunError(f"the run {run.path} has no model {visible(name)!r}; {_what_there_is(run)}")
    return found


def _what_there_is(run: RunDir) -> str:
    """Return whose answers are kept, in words."""
    splits: dict[int, list[Split]] = {}
    for number, split in run.database.answers.kept():
        splits.setdefault(number, []).append(split)
    records = {number: run.database.record(number) for number in splits}
    order = sorted(splits, key=lambda number: (number >= 0, abs(number)))
    shown = [
        f"{record.name} ({', '.join(split for split in Split if split in splits[number])})"
        for number in order
        if (record := records[number]) is not None
    ]
    if not shown:
        return "it keeps no answers" + (" yet" if run.database.count(baselines=True) == 0 else "")
    return f"answers are kept of {', '.join(shown)}; winner is the best merge"


def _last_common(run: RunDir, records: Mapping[str, Record]) -> Split:
    kept = set(run.database.answers.kept())
    for split in reversed(Split):
        numbers = [(one.number, one.number if one.same_as is None else one.same_as) for one in records.values()]
        if all((own, split) in kept or (earlier, split) in kept for own, earlier in numbers):
            return split
    for name, record in records.items():
        if not any(number in (record.number, record.same_as) for number, _ in kept):
            raise RunError(_why_none(run, name, record, Split.SEARCH))
    raise RunError(f"there is no split on which answers of all of {', '.join(records)} are kept; {_what_there_is(run)}")


def _why_none(run: RunDir, name: str, record: Record, split: Split) -> str:
    settings = ((run.config.get("evaluation") or {}).get("answers")) or {}
    label = name if name == record.name else f"{name} ({record.name})"
    if record.state != State.COMPLETE:
        why = f"it could not be scored: {cut(record.error or str(record.state), ERROR_LENGTH)}"
    elif settings.get("mib") == 0:
        why = "the run keeps none (evaluation.answers.mib is 0)"
    elif split not in (record.scores or {}) and record.same_as is None:
        why = "it was not asked them" + (
            ": finalists alone answer validation items, and the chosen ones test items" if split != Split.SEARCH else ""
        )
    elif split == Split.SEARCH and not record.is_baseline:
        why = f"on the search items only those of the best {settings.get('candidates', 8)} candidates are kept"
    else:
        why = "they did not fit (evaluation.answers.mib), or the executor does not tell them"
    return f"of {label} there are no answers to {split} items, since {why}. {_what_there_is(run)}"


def _counted(run: RunDir, task: str, scores: Iterable[ItemScore]) -> TaskSpec:
    """Return the entry of the objective that stands for a task; without one, of a metric that its items have."""
    keys = dict.fromkeys(key for score in scores if score.task == task for key in score.metrics)
    objectives = objective_of(run)
    spec = None if objectives is None else own_entries(objectives).get(task)
    if spec is not None and metric_key(spec.metric, spec.filter, keys) is not None:
        return spec
    metric, _, ensemble = next((key for key in keys if not key.startswith("_")), "").partition(",")
    return TaskSpec(task, metric, ensemble or None, direction="maximize")


def _value(score: ItemScore | None, spec: TaskSpec) -> float | None:
    metrics = {} if score is None else score.metrics
    value = metrics.get(metric_key(spec.metric, spec.filter, metrics) or "")
    return None if value is None or math.isnan(value) else float(value)


def _is_share(spec: TaskSpec, task: str, scores: Iterable[Mapping[tuple[str, int], ItemScore]]) -> bool:
    """Return whether the scores of a task are right, wrong or in between, rather than counts or in a unit."""
    values = [_value(score, spec) for own in scores for key, score in own.items() if key[0] == task]
    return all(0.0 <= value <= 1.0 for value in values if value is not None)


def _model_answer(answer: ItemAnswer, score: ItemScore | None, spec: TaskSpec, *, share: bool) -> ModelAnswer:
    value = _value(score, spec)
    best = 0.0 if spec.direction == "minimize" else 1.0
    metrics = {} if score is None else {name: one for name, one in score.metrics.items() if not name.startswith("_")}
    return ModelAnswer(answer, metrics, value, None if value is None or not share else value == best)


def kind_of(answers: Sequence[ModelAnswer], direction: str) -> str:
    """Return what became of an item, one of `KINDS`.

    Args:
        answers: the first model's, and the second one's where there is one.
        direction: which scores are better, "maximize" or "minimize".
    """
    values = [answer.score for answer in answers[:2]]
    if any(value is None for value in values):
        return "not judged"
    one, other = float(values[0] or 0.0), float(values[-1] or 0.0)
    if one != other:
        return "gained" if (one < other) == (direction == "minimize") else "lost"
    return "equal" if answers[0].right is None else "right" if answers[0].right else "wrong"
