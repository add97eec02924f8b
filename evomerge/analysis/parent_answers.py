"""Parents that may be better than their scores say, since most of their answers were cut by the limit, or empty.

A model that thinks before it answers, or that no stop text ends, is scored by what the limit of tokens left of it, and
a merge that is ahead of it has shown nothing. Yet models run on at tasks that they cannot do, too. The answers that
ended by themselves tell the two apart: where they are clearly worse than the merge, the others hide no better parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evomerge.analysis.probed_answers import MANY
from evomerge.evaluation.intervals import mean_score
from evomerge.evaluation.task import TaskSpec
from evomerge.record import Caution, Record, Split
from evomerge.system.figures import percentage

if TYPE_CHECKING:
    from evomerge.analysis.degeneration import Degeneration

TOO = 0.1
"""From which share of each merge's own answers on the parents are not looked at: what is said of the merges says it."""

_REMEDIES = {
    "cut_answers": (
        "were cut by the limit of tokens",
        "raise the task's generation.max_gen_toks, set what ends an answer (until, a chat template), or, for a model "
        "that thinks, evaluation.chat.arguments.enable_thinking: false",
    ),
    "empty_answers": ("are empty", "see whether the prompt, its chat template and the stop texts fit it"),
}


def parent_answers(measured: Degeneration, merges: Sequence[Record]) -> list[dict[str, Any]]:
    """Return which parents may be better at a task than the best of some merges.

    Args:
        measured: the measures of the run.
        merges: those that were chosen.

    Returns:
        One row for each parent and task of which at least half of the answers were cut, or empty, while the rest do not
        show that the parent is worse (95 % interval of their mean): `task`, `parent`, `measure`, `mean` (its share),
        `n` items of the `split`.
    """
    found = []
    for task, spec in measured.skills.entries.items():
        split = next((s for s in (measured.split_of(merge, task) for merge in merges) if s is not None), None)
        scores = [measured.skills.answers(merge, split).get(task) for merge in merges] if split is not None else []
        means = [_mean(own) for own in scores if own]
        if split is None or not means:
            continue
        best = min(means) if spec.direction == "minimize" else max(means)
        own = [measured.values(merge, split).get(task, {}) for merge in merges]
        clean = [m for m in _REMEDIES if any(_mean(of[m]) < TOO for of in own if of.get(m))]
        for parent in measured.skills.parents:
            measures = measured.values(parent, split).get(task, {})
            for measure in clean:
                values = measures.get(measure, {})
                share = _mean(values) if values else 0.0
                if share >= MANY and _may_be_better(measured, parent, split, spec, values, best):
                    row = {"task": task, "parent": parent.name, "measure": measure, "mean": share, "n": len(values)}
                    found.append({**row, "split": str(split)})
    return found


def parent_answer_cautions(rows: Sequence[Mapping[str, Any]]) -> Iterator[Caution]:
    """Yield one for each row of `parent_answers`."""
    for one in rows:
        what, remedy = _REMEDIES[one["measure"]]
        yield Caution(
            "parent_answers",
            f"{percentage(one['mean'])} % of {one['parent']}'s answers to {one['task']} {what} ({one['n']} "
            f"{one['split']} items), so it may be better than its score says: {remedy}",
        )


def _may_be_better(
    measured: Degeneration, parent: Record, split: Split, spec: TaskSpec, bad: Mapping[int, float], best: float
) -> bool:
    """Return whether a parent's good answers leave it open that it is as good as the best merge."""
    own = measured.skills.answers(parent, split).get(spec.name, {})
    good = [value for item, value in own.items() if not bad.get(item)]
    if not good:
        return True
    score = mean_score(good)
    return score.low <= best if spec.direction == "minimize" else score.high >= best


def _mean(values: Mapping[int, float]) -> float:
    return sum(values.values()) / len(values)
