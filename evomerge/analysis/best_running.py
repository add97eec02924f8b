"""The best merge of a search that goes on, beside the best parent and the average: worked out anew for a new best only.

What one sees while a search runs is about the items on which it evolves, so the best of many is shown in its most
flattering light; the closing tables judge it on items that nothing saw.
"""

from __future__ import annotations

from typing import Any

from evomerge.analysis.moment import AVERAGE, BEST_PARENT, Against, Goal, TaskGain
from evomerge.analysis.skills import Skills, skill
from evomerge.analysis.verdict import compared_on_common
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import WORST
from evomerge.record import Record, Score, Split
from evomerge.store.run_dir import RunDir


class BestRunning:
    """Compares the best merge with the baselines of one run.

    Args:
        run: the run.
        objectives: those of the run.
    """

    def __init__(self, run: RunDir, objectives: Objectives) -> None:
        self._run, self._objectives = run, objectives
        self._skills = Skills(run, objectives)

    def against(self, number: int | None, split: Split) -> tuple[Against, ...]:
        """Return the best parent, and the average where it is scored, with the gain of a candidate over each."""
        rows = []
        scored = [one for one in self._skills.parents if split in (one.scores or {})]
        if scored:
            rows.append((BEST_PARENT, max(scored, key=lambda one: _mean(one, split))))
        rows += [(AVERAGE, one) for one in self._others if split in (one.scores or {})]
        return tuple(
            Against(role, one.name, (one.scores or {})[split], self._gain(number, one, split)) for role, one in rows
        )

    def tasks(self, number: int | None, split: Split) -> tuple[TaskGain, ...]:
        """Return a candidate task by task against the best parent of each; empty where there is one task."""
        entries = self._skills.entries
        if len(entries) < 2:
            return ()
        record = None if number is None else self._run.database.record(number)
        own = {} if record is None else self._skills.answers(record, split)
        found = []
        for task, spec in entries.items():
            parent, by = self._skills.best_parent(task)
            other = {} if parent is None else self._skills.answers(parent, split).get(task, {})
            name = None if parent is None else parent.name
            made = None if record is None else skill(spec, name, by, split, own.get(task, {}), other)
            averages = [self._skills.answers(one, split).get(task) for one in self._others]
            values = next((list(one.values()) for one in averages if one), None)
            found.append(TaskGain(task, made, None if values is None else sum(values) / len(values)))
        return tuple(found)

    def goals(self, results: list[tuple[float, ...]]) -> tuple[Goal, ...]:
        """Return the objectives with their best values; empty where there is one.

        Args:
            results: `Result.objectives` of the candidates of the front.
        """
        objectives = self._objectives.objectives
        if len(objectives) < 2:
            return ()
        parents = [one.result.objectives for one in self._skills.parents if one.result is not None]
        return tuple(
            Goal(one.name, one.direction, *(_best(rows, place, one.direction) for rows in (results, parents)))
            for place, one in enumerate(objectives)
        )

    def reference(self) -> tuple[float, ...] | None:
        """Return the worst value of a baseline in each objective; None: there is one objective, or no baseline."""
        rows = [one.result.objectives for one in self._skills.baselines.values() if one.result is not None]
        several = len(self._objectives.objectives) > 1
        return tuple(min(column) for column in zip(*rows, strict=True)) if rows and several else None

    @property
    def _others(self) -> list[Record]:
        parents = {one.name for one in self._skills.parents}
        return [one for one in self._skills.baselines.values() if one.name not in parents]

    def _gain(self, number: int | None, baseline: Record, split: Split) -> dict[str, Any] | None:
        if number is None:
            return None
        found = compared_on_common(self._run, self._objectives, number, baseline.number, split)
        if found is None:
            return None
        worst = self._objectives.combination == WORST
        share = not worst and -1.0 <= found.difference <= 1.0 and -1.0 <= _mean(baseline, split) <= 1.0
        return {**found.to_data(), "share": share, "worst": worst}


def _best(rows: list[tuple[float, ...]], place: int, direction: str) -> float | None:
    if not rows:
        return None
    best = max(row[place] for row in rows)
    return -best if direction == "minimize" else best


def _mean(record: Record, split: Split) -> float:
    score: Score = (record.scores or {})[split]
    return score.mean
