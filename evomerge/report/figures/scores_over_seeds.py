"""How good the merges of several runs are at each task: mean and spread over seeds, beside parents and average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from evomerge.analysis.choice import parent_names
from evomerge.analysis.lost_skills import listed
from evomerge.analysis.searches import found_over_seeds
from evomerge.analysis.shares import shown_as_shares
from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Cell, Figure, Table
from evomerge.report.groups import RunGroup, groups_of
from evomerge.report.numbers import ScoreStyle, seen
from evomerge.report.searched import named
from evomerge.report.style import BEST

_ROW, _BETWEEN, _AXIS, _LEAST, _HIGHEST = 18, 18, 20, 100, 360
_PARENT = "best parent"

Found = Mapping[str, Any]
"""As `found_over_seeds` returns it."""


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the test scores of several runs, group by group."""
    if len(runs) < 2:
        return None
    groups = [(group, found_over_seeds([run.found for run in group.one_a_seed])) for group in groups_of(runs)]
    groups = [(group, found) for group, found in groups if found["complete"]]
    tasks = list(dict.fromkeys(task for _, found in groups for model in found["models"] for task in model["tasks"]))
    if not tasks:
        return None
    shares = [task for task in tasks if _style(task, [found for _, found in groups]).share]
    most = max(1, (_HIGHEST - _AXIS) // (_ROW * (len(groups) + 1) + _BETWEEN))
    seeds = any(found["complete"] > 1 for _, found in groups)
    note = "Circles: the mean of the best merges on the test items"
    note += ", over seeds, with lines of a standard deviation to both sides; small dots: each run. " if seeds else ". "
    note += "Bars: the best parent of each task, the mean of its runs."
    if len(shares) > most:
        note += f" The first {most} of {len(shares)} tasks are drawn; the table has all."
    if len(shares) < len(tasks):
        note += " Tasks in other units stand in the table."
    chart = _chart(groups, shares[:most]) if shares else None
    table = _table(groups, tasks)
    return Figure("scores-over-seeds", "Scores by task", _lead(groups, tasks), chart=chart, table=table, note=note)


def _style(task: str, founds: Sequence[Found]) -> ScoreStyle:
    means = [m["tasks"][task]["mean"] for found in founds for m in found["models"] if task in m["tasks"]]
    return ScoreStyle(share=shown_as_shares(task.rpartition(" ")[2], means))


def _of(found: Found, name: str, task: str) -> Mapping[str, Any] | None:
    model = next((one for one in found["models"] if one["name"] == name), None)
    return None if model is None else model["tasks"].get(task)


def _best_parent(group: RunGroup, found: Found, task: str) -> tuple[str, Mapping[str, Any]] | None:
    """Return the parent that is best at a task over the runs of a group, by their mean."""
    spec = next(
        (one for run in group.runs for one in run.entries.values() if task.startswith(f"{one.name} {one.metric}")), None
    )
    sign = -1.0 if spec is not None and spec.direction == "minimize" else 1.0
    names = list(dict.fromkeys(name for run in group.runs for name in parent_names(run.run)))
    scored = [(name, one) for name in names if (one := _of(found, name, task)) is not None]
    return max(scored, key=lambda one: sign * one[1]["mean"], default=None)


def _values(groups: Sequence[tuple[RunGroup, Found]], tasks: Sequence[str]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        style = _style(task, [found for _, found in groups])
        for group, found in groups:
            one = _of(found, BEST, task)
            if one is None:
                continue
            spread = one["spread"] or 0.0
            row = {"task": task, "group": group.label, "runs": one["n"], "text": _text(one, style)}
            mean = one["mean"]
            low, high = mean - spread, mean + spread
            if style.share and mean >= 0.0:  # no share is beyond
                low, high = max(low, 0.0), min(high, 1.0)
            yield {**row, "kind": "mean", "score": seen(mean), "low": seen(low), "high": seen(high), "name": BEST}
            for run in group.runs if one["n"] > 1 else ():
                own = run.found["models"].get(BEST, {}).get("tasks", {}).get(task)
                if own is not None:
                    told = {"kind": "run", "score": seen(own), "text": style.mean(own), "name": f"seed {run.seed}"}
                    yield {**row, **told}
            parent = _best_parent(group, found, task)
            if parent is not None:
                told = {"kind": "parent", "score": seen(parent[1]["mean"]), "text": _text(parent[1], style)}
                yield {**row, **told, "name": f"{parent[0]}, the {_PARENT}"}


def _chart(groups: Sequence[tuple[RunGroup, Found]], tasks: Sequence[str]) -> dict[str, Any]:
    labels = [group.label for group, _ in groups]
    base = alt.Chart(alt.NamedData("scores"))
    axis = alt.Axis(labelLimit=150, ticks=False, domain=False)
    legend = alt.Legend(title=None, labelLimit=320) if len(labels) > 1 else None
    how: dict[str, Any] = {
        "y": alt.Y("task:N", sort=list(tasks), title=None, axis=axis),
        "yOffset": alt.YOffset("group:N", sort=labels, scale=alt.Scale(paddingOuter=0.6)),
        "tooltip": [
            alt.Tooltip("group:N", title="runs"),
            alt.Tooltip("task:N"),
            alt.Tooltip("name:N", title="model"),
            alt.Tooltip("text:N", title="score on the test items"),
            alt.Tooltip("runs:Q", title="number of runs"),
        ],
    }
    colour = alt.Color("group:N", scale=alt.Scale(domain=labels), legend=legend)
    title = "score on the test items"
    x = alt.X("score:Q", title=title, axis=alt.Axis(format="%", tickCount=8), scale=alt.Scale(zero=False))
    means = base.transform_filter("datum.kind == 'mean'")
    parents = base.transform_filter("datum.kind == 'parent'").mark_tick(thickness=3, size=_ROW - 2)
    each = base.transform_filter("datum.kind == 'run'").mark_point(filled=True, size=18, opacity=0.7)
    layers = [
        means.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q", color=colour, **how),
        parents.encode(x=x, **how),
        means.mark_point(filled=True, size=80, opacity=1).encode(x=x, color=colour, **how),
        each.encode(x=x, color=colour, **how),
    ]
    height = len(tasks) * (_ROW * len(groups) + _BETWEEN) + _AXIS
    made = alt.layer(*layers, width="container", height=max(_LEAST, min(height, _HIGHEST)))
    return specification(made, scores=list(_values(groups, tasks)))


def _text(one: Mapping[str, Any], style: ScoreStyle) -> str:
    """Return "53.0 % ± 2.1 [48.1, 57.9]": mean, standard deviation and interval of the mean."""
    text = style.mean(one["mean"])
    if one["spread"] is not None:
        text += f" ± {style.mean(one['spread']).removesuffix(' %')}"
    return text if one["low"] is None else f"{text} {style.interval(one['low'], one['high'])}"


def _table(groups: Sequence[tuple[RunGroup, Found]], tasks: Sequence[str]) -> Table:
    columns = ["task", "runs", "number", f"{BEST} [95 % of the mean]", _PARENT, f"{_PARENT} [95 %]", "average [95 %]"]
    rows: list[list[Cell]] = []
    for task in tasks:
        style = _style(task, [found for _, found in groups])
        for group, found in groups:
            best, average = _of(found, BEST, task), _of(found, "average", task)
            name, parent = _best_parent(group, found, task) or (None, None)
            texts = [None if one is None else _text(one, style) for one in (best, parent, average)]
            if best is None and parent is None:
                continue  # another group's task
            rows.append([task, group.label, found["complete"], texts[0], name, texts[1], texts[2]])
    return Table(columns, rows)


def _lead(groups: Sequence[tuple[RunGroup, Found]], tasks: Sequence[str]) -> str:
    parts = []
    for task in tasks:
        style = _style(task, [found for _, found in groups])
        own = []
        for group, found in groups:
            one = _of(found, BEST, task)
            if one is not None:
                own.append(f"{_text(one, style)}" + (f" ({group.label})" if len(groups) > 1 else ""))
        parts.append(f"in {named([task])} {listed(own, 4)}")
    seeds = max(found["complete"] for _, found in groups)
    what = "mean ± standard deviation and 95 % interval of the mean, over seeds" if seeds > 1 else "one run each"
    return f"The best merges reach, on the test items, {listed(parts, 3)} ({what})."
