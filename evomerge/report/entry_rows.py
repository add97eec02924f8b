"""The scores of a run entry by entry of its objectives: the best merge, the parents and the average, with limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.analysis.choice import parent_names
from evomerge.analysis.shares import shown_as_shares
from evomerge.evaluation.task import TaskSpec
from evomerge.record import Record, Score, Split
from evomerge.report.data import RunData
from evomerge.report.numbers import ScoreStyle
from evomerge.report.style import BEST


@dataclass(frozen=True)
class EntryRow:
    """One entry: what is measured of one task.

    Attributes:
        label: what it is called: its task, with the metric where there are several, or it is no share.
        spec: the entry.
        style: how its scores are shown.
        split: the items on which models are compared: test, else validation, else search.
        scores: model to split to score; the best merge is called `BEST`.
        best_parent: the best parent at it, by the validation items; None: none was scored, or the entry is no skill.
        skill: the best merge against that parent; see `evomerge.analysis.skills.skill`.
        limit: the least or the most that the mean may be on `split`; None: there is no limit.
        limit_text: the limit in words.
        broken: whether the best merge breaks it there.
    """

    label: str
    spec: TaskSpec
    style: ScoreStyle
    split: Split
    scores: Mapping[str, Mapping[Split, Score]]
    best_parent: str | None
    skill: Mapping[str, Any] | None
    limit: float | None
    limit_text: str
    broken: bool

    @property
    def lost(self) -> bool:
        """Whether the best merge is worse at it than the best parent, beyond the paired interval."""
        return bool(self.skill and self.skill["lost"])

    def score(self, model: str, split: Split | None = None) -> Score | None:
        """Return a model's score, by default on the items on which models are compared."""
        return self.scores.get(model, {}).get(split or self.split)


def entry_rows(run: RunData) -> list[EntryRow]:
    """Return the entries of a run: lost skills first, the largest loss first, then as they are configured."""
    skills, objectives = run.skills, run.objectives
    if skills is None or objectives is None:
        return []
    records: list[tuple[str, Record]] = [] if run.best is None else [(BEST, run.best)]
    records += [(record.name, record) for record in run.baselines]
    every = {name: {split: skills.entry_scores(record, split) for split in Split} for name, record in records}
    compared = {} if run.best is None else {one["task"]: one for one in skills.compared(run.best)}
    several = {spec.name for spec in objectives.specs if sum(one.name == spec.name for one in objectives.specs) > 1}
    found = []
    for term, spec in zip(objectives.term_names, objectives.specs, strict=True):
        scores = {
            name: {split: own[term] for split, own in by_split.items() if term in own}
            for name, by_split in every.items()
        }
        first = next(iter(scores.values()), {})
        split = next((one for one in (Split.TEST, Split.VALIDATION) if one in first), Split.SEARCH)
        stands = skills.entries.get(spec.name) == spec
        parent = skills.best_parent(spec.name)[0] if stands else None
        means = [score.mean for own in scores.values() for score in own.values()]
        share = shown_as_shares(spec.metric, means)
        limit, text = _limit(run, spec, scores, split)
        own = scores.get(BEST, {}).get(split)
        found.append(
            EntryRow(
                label=term if spec.name in several or not share else spec.name,
                spec=spec,
                style=ScoreStyle(share=share),
                split=split,
                scores=scores,
                best_parent=None if parent is None else parent.name,
                skill=compared.get(spec.name) if stands else None,
                limit=limit,
                limit_text=text,
                broken=own is not None and limit is not None and _breaks(spec, own.mean, limit),
            )
        )
    return sorted(found, key=lambda row: (not row.lost, row.skill["difference"] if row.lost and row.skill else 0.0))


def _limit(
    run: RunData, spec: TaskSpec, scores: Mapping[str, Mapping[Split, Score]], split: Split
) -> tuple[float | None, str]:
    if spec.constraint is not None:
        one = spec.constraint
        return (one.max if one.max is not None else one.min), str(one)
    if spec.floor is None:
        return None, ""
    if not spec.floor.is_relative:
        return spec.floor.limit(None), f"at least {spec.floor.limit(None):g}"
    parents = [(scores[name][split].mean, name) for name in parent_names(run.run) if split in scores.get(name, {})]
    if not parents:
        return None, ""
    mean, name = max(parents)
    return spec.floor.limit(mean), f"at least {spec.floor.limit(mean):.4g} ({spec.floor.text(name, mean)})"


def _breaks(spec: TaskSpec, mean: float, limit: float) -> bool:
    if spec.constraint is not None:
        return spec.constraint.violation(mean) > 0.0
    return mean < limit - 1e-12 * max(1.0, abs(limit))


def model_order(run: RunData, rows: Sequence[EntryRow]) -> Iterator[str]:
    """Yield the models that have any score in some rows: the best merge, then the baselines in their order."""
    for name in (BEST, *(record.name for record in run.baselines)):
        if any(row.score(name) is not None for row in rows):
            yield name
