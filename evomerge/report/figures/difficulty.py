"""How hard the items are: how many candidates have each right, and how many items tell candidates apart at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np

from evomerge.analysis.difficulty import Difficulty, difficulty
from evomerge.record import Split
from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Figure, Table
from evomerge.report.groups import labels_of
from evomerge.system.figures import percentage
from evomerge.system.text import visible

MOST = 5
"""So many tasks are spoken of."""

POINTS = 120
"""At most so many points of a curve."""


@dataclass(frozen=True, eq=False)
class Told:
    """How hard the items of a task are on a split, as some models tell.

    Attributes:
        run: whose.
        task: its name.
        split: the split.
        models: how many answered; of search items candidates alone, else baselines, too.
        found: what they tell.
        less: whether smaller scores are better.
    """

    run: RunData
    task: str
    split: Split
    models: int
    found: Difficulty
    less: bool


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the share of candidates that have each search item right, the easiest items first."""
    several = len(runs) > 1
    labels = dict(zip(runs, labels_of(runs), strict=True)) if several else {runs[0]: runs[0].label}
    told = [one for run in runs for one in _told(run)]
    search = [one for one in told if one.split == Split.SEARCH and one.found.judged and one.found.same.size]
    if not search:
        return None
    rows = [
        {"x": x, "y": y, "task": one.task, "run": labels[one.run]}
        for one in search
        for x, y in _curve(one.found, one.less)
    ]
    tasks = list(dict.fromkeys(one.task for one in search))
    series = "run" if several else "task"
    names = list(dict.fromkeys(labels[one.run] for one in search)) if several else tasks
    base = alt.Chart(alt.NamedData("rows"), width="container", height=240).encode(
        x=alt.X("x:Q", title="search items, the easiest first, %", scale=alt.Scale(domain=[0, 100], nice=False)),
        y=alt.Y("y:Q", title="candidates that have it right, %", scale=alt.Scale(domain=[0, 100])),
        color=alt.Color(
            f"{series}:N",
            sort=names,
            title=None,
            legend=alt.Legend() if len(names) > 1 else None,
        ),
        tooltip=[
            alt.Tooltip("run:N"),
            alt.Tooltip("task:N"),
            alt.Tooltip("x:Q", title="easier items, %", format=".1f"),
            alt.Tooltip("y:Q", title="candidates right, %", format=".1f"),
        ],
    )
    if several and len(tasks) > 1:
        base = base.encode(strokeDash=alt.StrokeDash("task:N", sort=tasks, title=None))
    return Figure(
        "difficulty",
        "How hard the items are",
        _lead(search, labels),
        chart=specification(base.mark_line(interpolate="step-after"), rows=rows),
        table=_table(told, labels),
        note="Search items: candidates alone, each recipe once; validation and test items: all models that answered "
        "them, parents included. Items on which all score the same decide nothing; fitness.items and "
        "fitness.choose have each candidate asked about a part of the items only.",
    )


def _told(run: RunData) -> Iterator[Told]:
    for task, spec in run.entries.items():
        for split in Split:
            numbers, items, values = run.task_responses(task, split)
            rows = np.array(numbers, dtype=np.int64) >= (0 if split == Split.SEARCH else -len(run.baselines))
            if rows.sum() > 1 and items:
                less = spec.direction == "minimize"
                yield Told(run, task, split, int(rows.sum()), difficulty(values[rows], less=less), less)


def _curve(found: Difficulty, less: bool) -> list[tuple[float, float]]:
    share = 1.0 - found.mean if less else found.mean
    share = np.sort(share[~np.isnan(share)])[::-1]
    if not len(share):
        return []
    at = np.unique(np.linspace(0, len(share) - 1, min(POINTS, len(share))).round().astype(int))
    points = [(float(f"{100 * i / len(share):.4g}"), float(f"{100 * share[i]:.4g}")) for i in at.tolist()]
    return [*points, (100.0, points[-1][1])]


def _lead(search: Sequence[Told], labels: Mapping[RunData, str]) -> str:
    if len(labels) > 1:
        parts = []
        for run in dict.fromkeys(one.run for one in search):
            own = [one for one in search if one.run is run]
            same, items = sum(int(one.found.same.sum()) for one in own), sum(one.found.items for one in own)
            parts.append(f"{percentage(same / items)} % in {visible(labels[run], most=60)}")
        return f"Search items on which all candidates score the same, and so decide nothing: {', '.join(parts)}."
    texts = []
    for one in search:
        never, always = int(one.found.never.sum()), int(one.found.always.sum())
        of = f" of {visible(one.task, most=60)}" if len(search) > 1 else ""
        texts.append(f"{never} of {one.found.items} search items{of} no candidate has right, {always} all have right")
    same, items = (
        sum(values) for values in zip(*((int(o.found.same.sum()), o.found.items) for o in search), strict=True)
    )
    if not same:
        return f"All {items} search items tell candidates apart: none is right for all of them or for none."
    cost = sum(int(one.found.asked[one.found.same].sum()) for one in search)
    total = sum(int(one.found.asked.sum()) for one in search)
    more = f" (and {len(texts) - MOST} more tasks)" if len(texts) > MOST else ""
    return f"{'; '.join(texts[:MOST])}{more}: {percentage(cost / total)} % of the answers decide nothing."


def _table(told: Sequence[Told], labels: Mapping[RunData, str]) -> Table:
    several = len(labels) > 1
    rows = []
    for one in told:
        found = one.found
        mean = float(np.nanmean(found.mean)) if (found.asked > 0).any() else float("nan")
        rows.append(
            [
                *([labels[one.run]] if several else []),
                one.task,
                str(one.split),
                one.models,
                found.items,
                f"{percentage(mean)} %" if found.judged else float(f"{mean:.4g}"),
                int(found.never.sum()) if found.judged else None,
                int(found.always.sum()) if found.judged else None,
                found.items - int(found.same.sum()),
            ]
        )
    columns = ["task", "split", "models", "items", "mean score", "right for none", "right for all", "tell models apart"]
    return Table([*(["run"] if several else []), *columns], rows)
