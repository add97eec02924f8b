"""How a merge's answers degenerate, beside those of the best parent of each task: cut, empty, looping, foreign, longer.

What is compared is the means of the measures (`evomerge.evaluation.measures`) on the items of `analysis.skills`: the
test items, of a task without any the validation items. The parent is the one that is best at the task, since it is what
the merge would replace there; a parent that is bad at the task may loop as well, which is no excuse. Differences are
paired; each interval stands for itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.analysis.choice import with_each_chosen
from evomerge.analysis.lost_skills import listed
from evomerge.analysis.parent_answers import parent_answers
from evomerge.analysis.skills import JUDGED, Skills, paired
from evomerge.evaluation.intervals import mean_score
from evomerge.evaluation.measures.registry import ALWAYS, SHARES
from evomerge.evaluation.scripts import KnownScripts
from evomerge.evaluation.task import FOREIGN_SCRIPT, SCRIPT
from evomerge.record import Caution, ItemScore, Record, Score, Split
from evomerge.store.database import Database
from evomerge.store.run_dir import RunDir
from evomerge.system.figures import gain, percentage

MANY_CUT = 0.1
"""Where the limit cut more than this share of the answers of a merge and of its best parent, their scores are about cut
answers."""

MOST = 5
"""So many rows have a sentence of their own; the others are named together."""

_KINDS = {
    "repetitive_answers": ("degenerate", "loop", "repeat themselves"),
    "empty_answers": ("degenerate", "are empty", "say nothing"),
    FOREIGN_SCRIPT: ("degenerate", "are in another script", "are in a script in which no parent answered"),
    "cut_answers": ("cut_answers", "do not end", "were cut by the limit of tokens"),
}
"""Measure to the kind of caution, and how answers are called."""

LESS = tuple(_KINDS)
"""The measures of which less is better, and that say that something is wrong."""

LONGER = "raise its generation.max_gen_toks, or see why answers do not end (stop texts, chat template)"
SHORTER = "use fewer examples (num_fewshot), or leave less room for answers (generation.max_gen_toks)"

Row = Mapping[str, Any]
Values = dict[str, dict[str, dict[int, float]]]
"""Task to measure to item to value."""


class Degeneration:
    """The measures of a run's records, each read once.

    Attributes:
        skills: the scores of the same records, task by task.
    """

    def __init__(self, skills: Skills) -> None:
        self.skills = skills
        self._values: dict[tuple[int, Split], Values] = {}

    def rows(self, record: Record) -> list[dict[str, Any]]:
        """Return a record against the best parent of each task, one row for each measure that both have.

        Returns:
            `task`, `measure`; `best` and `parent`: the means of the record and of the parent; `against`: the parent's
            name; `difference`: `best` minus `parent`, with `low` and `high` (95 %, paired) and `p_value`; `n` items of
            the `split`; `share`: whether it is a share, unlike tokens.
        """
        found = []
        for task in self.skills.entries:
            parent, _ = self.skills.best_parent(task)
            split = self.split_of(record, task)
            if parent is None or split is None:
                continue
            own, other = self.values(record, split)[task], self.values(parent, split).get(task, {})
            for measure in ALWAYS:
                values = own.get(measure, {}), other.get(measure, {})
                both = sorted(values[0].keys() & values[1].keys())
                if both:
                    found.append(_row(task, measure, parent.name, split, *([one[i] for i in both] for one in values)))
        return found

    def split_of(self, record: Record, task: str) -> Split | None:
        """Return the last judged split on which a record answered a task; None: there is none."""
        return next((one for one in reversed(JUDGED) if task in self.values(record, one)), None)

    def cut_prompts(self, records: Mapping[str, Record]) -> list[dict[str, Any]]:
        """Return which of some models read cut prompts on the last split that they answered.

        Args:
            records: what a model is called to its record.

        Returns:
            `task`, `split`, `models` (those with the same number), and how many of the `n` items: `cut`.
        """
        found: dict[tuple[str, str, int, int], list[str]] = {}
        for name, record in records.items():
            split = next((one for one in reversed(Split) if one in (record.scores or {})), Split.SEARCH)
            for task, own in self.values(record, split).items():
                values = own.get("cut_prompts", {})
                if any(values.values()):
                    key = (task, str(split), sum(value > 0.0 for value in values.values()), len(values))
                    found.setdefault(key, []).append(name)
        return [
            {"task": task, "split": split, "models": names, "cut": cut, "n": n}
            for (task, split, cut, n), names in found.items()
        ]

    def scores(self, record: Record, split: Split) -> dict[str, dict[str, Score]]:
        """Return the mean of each measure of each task with its 95 % interval."""
        return {
            task: {measure: mean_score(list(values.values())) for measure, values in own.items() if values}
            for task, own in self.values(record, split).items()
        }

    def over_candidates(self, task: str, measure: str) -> tuple[list[int], NDArray[np.float64]]:
        """Return the candidates and the mean of a measure over the search items that each answered, NaN for none.

        Whether an answer is in a foreign script is told by the parents' answers to the same item.
        """
        database = self.skills.run.database
        stored = SCRIPT if measure == FOREIGN_SCRIPT else measure
        numbers, items, values = database.response_matrix(task, stored, baselines=False)
        if measure == FOREIGN_SCRIPT:
            known = self.skills.scripts(Split.SEARCH)
            values = np.array(values)
            for column, item in enumerate(items):
                for script in np.unique(values[:, column][~np.isnan(values[:, column])]):
                    told = known.foreign(ItemScore(task, item, {SCRIPT: float(script)}))
                    values[values[:, column] == script, column] = told
        there = ~np.isnan(values)
        counts = there.sum(axis=1)
        sums = np.where(there, values, 0.0).sum(axis=1)
        return numbers, np.divide(sums, counts, out=np.full(len(numbers), np.nan), where=counts > 0)

    def values(self, record: Record, split: Split) -> Values:
        """Return a record's measures of each item that it answered."""
        key = (record.number, split)
        if key not in self._values:
            self._values[key] = _values(self.skills.items(record, split), self.skills.scripts(split))
        return self._values[key]


def with_degeneration(run: RunDir, skills: Skills, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a status with how answers degenerate.

    Args:
        run: the run.
        skills: those of the run.
        found: a status as `evomerge.analysis.skills.with_skills` returns it.

    Returns:
        The status, with `degeneration`, the rows of the best merge (see `Degeneration.rows`), also in each of
        `choice.records`; `parent_answers` (see `evomerge.analysis.parent_answers`); and `cut_prompts` (see
        `Degeneration.cut_prompts`) of the baselines and, where `best` is true, of the best merge.
    """
    measured = Degeneration(skills)
    made = {**found, "degeneration": [], "parent_answers": []}
    named = dict(skills.baselines)
    best = found.get("best")
    record = None if best is None else run.database.record(best["id"])
    if record is not None:
        named[""] = record  # a name that no model has
    made["cut_prompts"] = [
        {**row, "models": [name for name in row["models"] if name], "best": "" in row["models"]}
        for row in measured.cut_prompts(named)
    ]
    chosen: list[Record] = []

    def rows(record: Record) -> dict[str, Any]:
        chosen.append(record)
        return {"degeneration": measured.rows(record)}

    made = with_each_chosen(run, made, rows, first=("degeneration",))
    made["parent_answers"] = parent_answers(measured, chosen) if chosen else []
    return made


def degenerate(found: Mapping[str, Any]) -> Iterator[Caution]:
    """Yield what is to be said of answers that degenerate, and of prompts that were cut.

    Args:
        found: a status with `degeneration` and `cut_prompts`; `choice`, where several merges were chosen, of which each
            is looked at unless `who` says that the status is about one merge.
    """
    who = str(found.get("who") or "the best merge")
    rows = () if found.get("who") else (found.get("choice") or {}).get("records", ())
    own = found.get("degeneration") or ()
    if len(rows) > 1:
        texts = _of_several(rows, str(found["choice"]["kind"]))
    else:
        worse = sorted(filter(_is_worse, own), key=lambda one: -one["low"])
        texts = [(one["measure"], one["task"], worse_text(one, who)) for one in worse if not _both_cut(one)]
    texts += [("cut_answers", one["task"], _both_text(one, who)) for one in own if _both_cut(one)]
    for kind in dict.fromkeys(kind for kind, *_ in _KINDS.values()):
        mine = [(task, text) for measure, task, text in texts if _KINDS[measure][0] == kind]
        for _, text in mine[:MOST]:
            yield Caution(kind, text)
        if len(mine) > MOST:
            names = list(dict.fromkeys(task for task, _ in mine[MOST:]))
            yield Caution(kind, f"and likewise in {len(mine) - MOST} more cases, of {listed(names)}")
    for one in found.get("cut_prompts") or ():
        yield Caution("cut_answers", _prompts_text(one, who))


def cut_prompts_of_baselines(database: Database) -> Iterator[str]:
    """Yield a sentence for each task some of whose search items had prompts that were too long for a baseline."""
    found: dict[tuple[str, int, int], list[str]] = {}
    for record in database.baselines():
        for task, own in _values(database.item_scores(record.number, Split.SEARCH), KnownScripts()).items():
            values = own.get("cut_prompts", {})
            if any(values.values()):
                key = (task, sum(value > 0.0 for value in values.values()), len(values))
                found.setdefault(key, []).append(record.name)
    for (task, cut, n), names in found.items():
        yield _prompts_text(
            {"task": task, "split": str(Split.SEARCH), "models": names, "best": False, "cut": cut, "n": n}, ""
        )


def _values(scores: Sequence[ItemScore], known: KnownScripts) -> Values:
    found: Values = {}
    for one in scores:
        for measure in ALWAYS:
            value = known.foreign(one) if measure == FOREIGN_SCRIPT else one.metrics.get(measure, math.nan)
            if math.isfinite(value):
                found.setdefault(one.task, {}).setdefault(measure, {})[one.item] = float(value)
    return found


def _row(
    task: str, measure: str, against: str, split: Split, own: Sequence[float], other: Sequence[float]
) -> dict[str, Any]:
    difference = paired(own, other, None)
    return {
        "task": task,
        "measure": measure,
        "best": math.fsum(own) / len(own),
        "parent": math.fsum(other) / len(other),
        "against": against,
        "difference": difference.difference,
        "low": difference.low,
        "high": difference.high,
        "p_value": difference.p_value,
        "n": difference.n,
        "split": str(split),
        "share": measure in SHARES,
    }


def telling(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that tell whether answers are degenerate; those of cut answers and of tokens do not."""
    return [one for one in rows if _KINDS.get(one["measure"], ("",))[0] == "degenerate"]


def degenerated(rows: Sequence[Row]) -> list[Row]:
    """Return the rows by which answers are degenerate: worse than the parent's by more than the interval."""
    return sorted(filter(_is_worse, telling(rows)), key=lambda one: -one["low"])


def _is_worse(one: Row) -> bool:
    return one["measure"] in _KINDS and one["low"] > 0.0


def _both_cut(one: Row) -> bool:
    return one["measure"] == "cut_answers" and min(one["best"], one["parent"]) > MANY_CUT


def worse_text(one: Row, who: str) -> str:
    """Return "the best merge's answers to gsm8k loop: 38.0 % repeat themselves, 1.0 % of math's (+37.0 points …)"."""
    _, verb, what = _KINDS[one["measure"]]
    remedy = f"; {LONGER}" if one["measure"] == "cut_answers" else ""
    return (
        f"{who}'s answers to {one['task']} {verb}: {percentage(one['best'])} % {what}, {percentage(one['parent'])} % "
        f"of {one['against']}'s ({gain(one).strip()} on {one['n']} {one['split']} items){remedy}"
    )


def _both_text(one: Row, who: str) -> str:
    own, other = percentage(one["best"]), percentage(one["parent"])
    return (
        f"the limit of tokens cut {own} % of {who}'s answers to {one['task']} and {other} % of {one['against']}'s "
        f"({gain(one).strip()} on {one['n']} {one['split']} items), so their scores are those of cut answers: {LONGER}"
    )


def _prompts_text(one: Row, who: str) -> str:
    names = listed([*one["models"], *([who] if one["best"] else [])])
    return (
        f"{one['cut']} of {one['n']} {one['split']} prompts of {one['task']} were too long for {names}, and lost their "
        f"beginning: {SHORTER}"
    )


def _of_several(rows: Sequence[Mapping[str, Any]], kind: str) -> list[tuple[str, str, str]]:
    """Return measure, task and a sentence for what is worse in merges of a front or archive, the commonest first."""
    found: dict[tuple[str, str], list[tuple[str, Row]]] = {}
    for row in rows:
        for one in filter(_is_worse, row["degeneration"]):
            found.setdefault((one["measure"], one["task"]), []).append((str(row["name"]), one))
    texts = []
    for (measure, task), those in sorted(found.items(), key=lambda pair: -len(pair[1])):
        each = [
            f"{name} ({percentage(one['best'])} %, {percentage(one['parent'])} % of {one['against']}'s)"
            for name, one in those
        ]
        text = (
            f"answers to {task} {_KINDS[measure][1]} with {len(those)} of the {len(rows)} merges of the {kind}: "
            f"{listed(each, 3)} {_KINDS[measure][2]}"
        )
        texts.append((measure, task, text))
    return texts
