"""Skill by skill: how merges, parents and average do on each task, and which skills of a parent a merge has lost.

A weighted sum can rise while one of its tasks falls to nothing. So each task is looked at alone: the merge against the
parent that is best at it, on the same items. That parent is named by the validation items, so that naming it chooses
nothing on the test items. Intervals are those of `evomerge.evaluation.intervals`, paired differences those of
`evomerge.analysis.comparison`; each stands for itself, with no correction for the number of tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evomerge.analysis.choice import note_baselines, parent_names, with_each_chosen
from evomerge.analysis.comparison import Difference, compare
from evomerge.analysis.shares import shown_as_shares
from evomerge.errors import EvaluationError
from evomerge.evaluation.intervals import mean_score
from evomerge.evaluation.item_values import LARGEST, metric_key
from evomerge.evaluation.measures.registry import MEASURES
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.scripts import KnownScripts
from evomerge.evaluation.task import FOREIGN_SCRIPT, NEGATIVE_FLIPS, TaskSpec
from evomerge.record import ItemScore, Record, Score, Split
from evomerge.store.run_dir import RunDir

JUDGED = (Split.VALIDATION, Split.TEST)
"""The splits on which nothing was evolved."""

_RELATIVE = (NEGATIVE_FLIPS, FOREIGN_SCRIPT)
"""Metrics that are told by other models' answers, so that an item's own scores do not hold them."""

Answers = Mapping[int, float]
"""Item to the value of a task's own metric; items that are not judged are left out."""


def own_entries(objectives: Objectives) -> dict[str, TaskSpec]:
    """Return the entry that stands for each task: its first one with a weight, else its first one without a limit.

    Among those with a weight, a metric of the task itself goes before what evomerge measures of any answer (tokens,
    say), which is no skill.
    """
    found: dict[str, TaskSpec] = {}
    for spec in objectives.specs:
        if spec.name not in found or _rank(spec) < _rank(found[spec.name]):
            found[spec.name] = spec
    return found


def _rank(spec: TaskSpec) -> int:
    if spec.constraint is not None:
        return 4
    measured = spec.metric in MEASURES.names or spec.metric == NEGATIVE_FLIPS
    return (0 if spec.weight > 0.0 else 2) + measured


class Skills:
    """The task scores of a run's records, each read once.

    Attributes:
        run: the run.
        objectives: those of the run.

    Args:
        run: the run.
        objectives: those of the run.
    """

    def __init__(self, run: RunDir, objectives: Objectives) -> None:
        self.run, self.objectives = run, objectives
        self.entries = own_entries(objectives)
        # In the order in which they are configured: of equal parents the first one is the best, as everywhere.
        self.baselines = {record.name: record for record in run.database.baselines()}
        named = parent_names(run)
        self.parents = [record for name, record in self.baselines.items() if name in named]
        self._items: dict[tuple[int, Split], list[ItemScore]] = {}
        self._noted: set[Split] = set()
        self._known: dict[Split, KnownScripts] = {}
        self._own: dict[tuple[int, Split], dict[str, dict[int, float]]] = {}

    def tasks(self, record: Record) -> dict[str, dict[str, Any]]:
        """Return a record's score in each task.

        Returns:
            Task name to `validation` and `test`, each `{"mean", "low", "high", "n"}` in the metric's own unit and
            direction, or None; and `measures`: name to the mean of whatever else the items of the task have (further
            metrics, and what evomerge measures of the answers) on the test items, else validation, else search.
        """
        measured = next((split for split in reversed(Split) if split in (record.scores or {})), None)
        measures = {} if measured is None else self._measures(record, measured)
        return {
            task: {
                **{str(split): _data(self.answers(record, split).get(task)) for split in JUDGED},
                "measures": measures.get(task, {}),
            }
            for task in self.entries
        }

    def compared(self, record: Record) -> list[dict[str, Any]]:
        """Return a record against the best parent of each task (see `skill`), on the test items, else validation."""
        return self._compared(lambda split: self.answers(record, split))

    def compared_anew(self, items: Sequence[ItemScore]) -> list[dict[str, Any]]:
        """Return likewise a model that answered the test items again, against what the run has of the parents."""
        test = self.of_items(items, Split.TEST)
        return self._compared(lambda split: test if split is Split.TEST else {})

    def _compared(self, answers: Callable[[Split], Mapping[str, Answers]]) -> list[dict[str, Any]]:
        found = []
        for task, spec in self.entries.items():
            parent, by = self.best_parent(task)
            split = Split.TEST if answers(Split.TEST).get(task) else Split.VALIDATION
            other = {} if parent is None else self.answers(parent, split)
            name = None if parent is None else parent.name
            found.append(skill(spec, name, by, split, answers(split).get(task, {}), other.get(task, {})))
        return found

    def best_parent(self, task: str) -> tuple[Record | None, Split | None]:
        """Return the parent with the best validation score of a task (search score, where there is none), and which."""
        sign = _sign(self.entries[task])
        for split in (Split.VALIDATION, Split.SEARCH):
            answers = [(parent, self.answers(parent, split).get(task)) for parent in self.parents]
            scored = [(parent, sign * _mean(list(own.values()))) for parent, own in answers if own]
            if scored:
                return max(scored, key=lambda one: one[1])[0], split
        return None, None

    def answers(self, record: Record, split: Split) -> Mapping[str, Answers]:
        """Return a record's values of each task's own metric by item; tasks without judged items are left out."""
        key = (record.number, split)
        if key not in self._own:
            self._own[key] = self.of_items(self.items(record, split), split)
        return self._own[key]

    def entry_scores(self, record: Record, split: Split) -> dict[str, Score]:
        """Return a record's score in every entry of the objectives, limits too, by the entry's name (`term_names`).

        Entries without judged items are left out; all of them are, where one is told by models that were not scored.
        """
        items = self.items(record, split)
        if not items:
            return {}
        self._note(split)
        try:
            found = self.objectives.answers(items, split)
        except EvaluationError:
            return {}
        return {name: mean_score(list(values.values())) for name, values in found.items() if values}

    def _note(self, split: Split) -> None:
        """Tell the objectives what the baselines answered, with which others are compared."""
        if split not in self._noted:
            note_baselines(self.run, self.objectives, split)
            self._noted.add(split)

    def of_items(self, items: Sequence[ItemScore], split: Split) -> dict[str, dict[int, float]]:
        """Return item scores as `answers` does."""
        found: dict[str, dict[int, float]] = {}
        for one in items:
            spec = self.entries.get(one.task)
            if spec is None or spec.metric in _RELATIVE:
                continue
            key = metric_key(spec.metric, spec.filter, one.metrics)
            if key is not None and abs(value := float(one.metrics[key])) <= LARGEST:  # not NaN
                found.setdefault(one.task, {})[one.item] = value
        for task, spec in self.entries.items():
            if spec.metric in _RELATIVE and (told := self._relative(spec, items, split)):
                found[task] = told
        return found

    def scripts(self, split: Split) -> KnownScripts:
        """Return the scripts in which the parents answered on a split."""
        if split not in self._known:
            self._known[split] = KnownScripts()
            for parent in self.parents:
                self._known[split].note(self.items(parent, split))
        return self._known[split]

    def items(self, record: Record, split: Split) -> list[ItemScore]:
        """Return a record's item scores on a split; none where the split has no score."""
        key = (record.number, split)
        if key not in self._items:
            scored = split in (record.scores or {})
            self._items[key] = self.run.database.item_scores(record.number, split) if scored else []
        return self._items[key]

    def _relative(self, spec: TaskSpec, items: Sequence[ItemScore], split: Split) -> dict[int, float]:
        """Return the values of an entry that is told by others' answers; none where these are not known."""
        if not items:
            return {}
        self._note(split)
        name = next(n for n, one in zip(self.objectives.term_names, self.objectives.specs, strict=True) if one == spec)
        try:
            return self.objectives.answers(items, split)[name]
        except EvaluationError:
            return {}

    def _measures(self, record: Record, split: Split) -> dict[str, dict[str, float]]:
        values: dict[str, dict[str, list[float]]] = {}
        items = self.items(record, split)
        for one in items:
            spec = self.entries.get(one.task)
            if spec is None:
                continue
            own = metric_key(spec.metric, spec.filter, one.metrics)
            for name, value in one.metrics.items():
                if name != own and not name.startswith("_") and not math.isnan(value):
                    values.setdefault(one.task, {}).setdefault(name, []).append(float(value))
            foreign = math.nan if FOREIGN_SCRIPT in (spec.metric, *one.metrics) else self.scripts(split).foreign(one)
            if not math.isnan(foreign):
                values.setdefault(one.task, {}).setdefault(FOREIGN_SCRIPT, []).append(foreign)
        for spec in self.objectives.specs:
            further = spec.metric == NEGATIVE_FLIPS and spec != self.entries[spec.name]
            if further and (told := self._relative(spec, items, split)):
                values.setdefault(spec.name, {})[spec.label.removeprefix(f"{spec.name}, ")] = list(told.values())
        return {task: {name: _mean(own) for name, own in by_name.items()} for task, by_name in values.items()}


def with_skills(run: RunDir, skills: Skills, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a status with the scores by task.

    Args:
        run: the run.
        skills: those of the run.
        found: a status with its `choice`.

    Returns:
        The status, with `tasks` in `best`, in each of `baselines` and of `choice.records` (see `Skills.tasks`);
        `parent` in each of `baselines`: whether it is one, rather than the plain average; `skills` in each of
        `choice.records` and, of the best one, in the status: a list with one entry for each task (see `skill`), empty
        before the search has ended.
    """
    made = {**found, "skills": []}
    parents = {record.name for record in skills.parents}
    made["baselines"] = [
        {**row, "parent": row["name"] in parents, "tasks": skills.tasks(skills.baselines[row["name"]])}
        for row in found["baselines"]
    ]
    best = found.get("best")
    record = None if best is None else run.database.record(best["id"])
    if best is not None and record is not None:
        made["best"] = {**best, "tasks": skills.tasks(record)}
    return with_each_chosen(
        run, made, lambda one: {"tasks": skills.tasks(one), "skills": skills.compared(one)}, first=("skills",)
    )


def skill(
    spec: TaskSpec, parent: str | None, by: Split | None, split: str, own: Answers, other: Answers
) -> dict[str, Any]:
    """Return a merge against the best parent of a task.

    Args:
        spec: the entry that stands for the task.
        parent: the parent's name; None: none was scored.
        by: the split by which that parent was named.
        split: the split of the items, or another word for them.
        own: the merge's values.
        other: the parent's.

    Returns:
        `task`, `metric` ("metric,filter" after a filter), `direction`, `share` (whether the scores are shown in per
        cent), `best_parent`, `best_parent_by`, `split`, `floor` (whether the entry has one, which says what may be
        lost); over the `n` items that are judged for both: `mean` and
        `parent_mean` in the metric's own direction, `difference` with `low` and `high` (95 %), signed so that above 0
        the merge is better, also where less is better, and `p_value`; `lost`: whether the merge is worse by more than
        the interval (`high` below 0); `kept`: which part of the parent's score is left, of a share of which more is
        better (else None). From `mean` on all are None where there is no such item, and `n` is 0.
    """
    both = sorted(own.keys() & other.keys())
    filtered = spec.filter not in (None, "none")
    found: dict[str, Any] = {
        "task": spec.name,
        "metric": f"{spec.metric},{spec.filter}" if filtered else spec.metric,
        "direction": spec.direction,
        "best_parent": parent,
        "best_parent_by": None if by is None else str(by),
        "split": str(split),
        "floor": spec.floor is not None,
        "n": len(both),
    }
    if not both:
        nothing = ("mean", "parent_mean", "difference", "low", "high", "p_value", "lost", "kept")
        return {**found, "share": shown_as_shares(spec.metric, ()), **dict.fromkeys(nothing)}
    mine, theirs = [own[item] for item in both], [other[item] for item in both]
    means = (_mean(mine), _mean(theirs))
    difference = paired(mine, theirs, spec.direction)
    share = shown_as_shares(spec.metric, means)
    part_of = share and spec.direction == "maximize" and means[0] >= 0.0 and means[1] > 0.0
    return {
        **found,
        "share": share,
        "mean": means[0],
        "parent_mean": means[1],
        **difference.to_data(),
        "lost": difference.high < 0.0,
        "kept": means[0] / means[1] if part_of else None,
    }


def paired(own: Sequence[float], other: Sequence[float], direction: str | None) -> Difference:
    """Return the paired difference of two models in one metric, signed so that above 0 the first is better."""
    return compare({"": own}, {"": other}, {"": -1.0 if direction == "minimize" else 1.0})


def _sign(spec: TaskSpec) -> float:
    return -1.0 if spec.direction == "minimize" else 1.0


def _mean(values: Sequence[float]) -> float:
    if all(abs(value) <= LARGEST for value in values):
        return math.fsum(values) / len(values)
    return mean_score(values).mean


def _data(answers: Answers | None) -> dict[str, Any] | None:
    return mean_score(list(answers.values())).to_data() if answers else None
