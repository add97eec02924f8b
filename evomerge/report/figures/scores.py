"""How good the best merge, the parents and the average are at each task; lost skills first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from evomerge.analysis.lost_skills import listed
from evomerge.record import Score, Split
from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.entry_rows import EntryRow, entry_rows, model_order
from evomerge.report.figure import Cell, Figure, Table
from evomerge.report.numbers import seen
from evomerge.report.searched import named
from evomerge.report.style import BEST, model_names

_ROW, _BETWEEN, _TASK, _AXIS = 15, 16, 26, 20
"""Pixels of a model, between tasks, of a task whose models share a line, and for the rest."""
_HIGHEST = 360
_MOST = 13
"""So many tasks are drawn."""
_LABEL = 150

MARKS = (
    "Circles: the items on which models are compared (test items, where there are any), with 95 % intervals; diamonds: "
    "validation items."
)


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the scores of one run; those of several are in `scores_over_seeds`."""
    if len(runs) != 1:
        return None
    run = runs[0]
    rows = [row for row in entry_rows(run) if any(row.scores.values())]
    if not rows:
        return None
    shares = [row for row in rows if row.style.share and any(model_order(run, [row]))]
    left_out = len(shares) - _MOST
    note = f"{MARKS} Bars: the least or the most that is allowed." if any(r.limit is not None for r in rows) else MARKS
    if left_out > 0:
        note += f" The first {_MOST} of {len(shares)} tasks are drawn; the table has all."
    if len(shares) < len(rows):
        note += " Scores in other units have a chart of their own."
    chart = score_chart(run, shares[:_MOST]) if shares else None
    return Figure("scores", "Scores by task", _lead(run, rows), chart=chart, table=score_table(run, rows), note=note)


def score_chart(run: RunData, rows: Sequence[EntryRow]) -> dict[str, Any]:
    """Return a chart of scores in one unit: a dot for each model, with its interval, entry by entry."""
    models = list(model_order(run, rows))
    height = len(rows) * (_ROW * len(models) + _BETWEEN) + _AXIS
    apart = height <= _HIGHEST  # else the models of a task share a line
    values = [value for row in rows for model in models for value in score_marks(row, model)]
    base = alt.Chart(alt.NamedData("scores"))
    labels = [row_label(row) for row in rows]
    y = alt.Y("task:N", sort=labels, title=None, axis=alt.Axis(labelLimit=_LABEL, ticks=False, domain=False))
    x = alt.X(
        "score:Q",
        title=_x_title(rows),
        axis=alt.Axis(format=rows[0].style.axis, tickCount=8),
        scale=alt.Scale(zero=False),
    )
    legend = alt.Legend(title=None, values=models, symbolType="circle", symbolOpacity=1)
    how: dict[str, Any] = {"y": y}
    how["color"] = alt.Color("model:N", scale=alt.Scale(domain=list(model_names(run))), legend=legend)
    if apart:
        how["yOffset"] = alt.YOffset("model:N", sort=models, scale=alt.Scale(paddingOuter=0.6))
    tip = list(score_tips())
    compared, further = "datum.kind == 'compared'", "datum.kind == 'further'"
    spans = base.transform_filter(compared if apart else f"{compared} && datum.model == '{BEST}'")
    layers: list[Any] = [
        spans.mark_rule(strokeWidth=2).encode(**how, x=alt.X("low:Q", title=_x_title(rows)), x2="high:Q", tooltip=tip),
        base.transform_filter(further if apart else f"{further} && datum.model == '{BEST}'")
        .mark_point(shape="diamond", size=45, strokeWidth=1.5)
        .encode(**how, x=x, tooltip=tip),
        base.transform_filter(compared).mark_point(filled=True, size=75, opacity=1).encode(**how, x=x, tooltip=tip),
    ]
    limits = [
        {"task": row_label(row), "score": seen(row.limit), "text": row.limit_text}
        for row in rows
        if row.limit is not None
    ]
    if limits:
        bars = alt.Chart(alt.NamedData("limits")).mark_tick(thickness=3, size=_ROW * len(models) if apart else _TASK)
        layers.append(bars.encode(y=y, x=x, tooltip=[alt.Tooltip("task:N"), alt.Tooltip("text:N", title="limit")]))
    height = max(100, height if apart else _TASK * len(rows) + _AXIS)
    return specification(
        alt.layer(*layers, width="container", height=height), scores=values, **({"limits": limits} if limits else {})
    )


def score_tips() -> Iterator[alt.Tooltip]:
    """Yield what a mark says when it is pointed at; see `score_marks`."""
    yield from (alt.Tooltip("model:N"), alt.Tooltip("task:N"), alt.Tooltip("text:N", title="score"))
    yield from (alt.Tooltip("items:N"), alt.Tooltip("said:N", title="note"))


def row_label(row: EntryRow) -> str:
    """Return the name of an entry, with what is to be looked at."""
    less = " (less is better)" if row.spec.direction == "minimize" else ""
    mark = "lost: " if row.lost else "limit broken: " if row.broken else ""
    return f"{mark}{row.label}{less}"


def _x_title(rows: Sequence[EntryRow]) -> str:
    splits = list(dict.fromkeys(str(row.split) for row in rows))
    what = "score" if rows[0].style.share or len(rows) > 1 else rows[0].spec.metric
    return f"{what} on the {' or '.join(splits)} items"


def score_marks(row: EntryRow, model: str) -> Iterator[dict[str, Any]]:
    """Yield a model's score where it is compared, and its validation score beside a test score."""
    splits = [(row.split, "compared")] + [(Split.VALIDATION, "further")] * (row.split is Split.TEST)
    for split, kind in splits:
        score = row.score(model, split)
        if score is None or (mean := seen(score.mean)) is None:
            continue
        yield {
            "task": row_label(row),
            "model": model,
            "kind": kind,
            "score": mean,
            "low": seen(score.low),
            "high": seen(score.high),
            "text": row.style.score(score),
            "items": f"{score.n} {split}",
            "said": _said(row, model),
        }


def _said(row: EntryRow, model: str) -> str:
    if model == BEST and row.skill and row.skill["n"]:
        return f"{row.style.difference(row.skill)} against {row.skill['best_parent']}"
    return "the best parent at it" if model == row.best_parent else "–"


def score_table(run: RunData, rows: Sequence[EntryRow]) -> Table:
    """Return the scores of every entry and model in numbers."""
    models = [name for name in model_order(run, rows) if name != BEST]
    limited = any(row.limit is not None for row in rows)
    columns = ["task", BEST, "best parent", "gain over it [95 %]", *models, f"{BEST}, validation"]
    columns += ["limit"] if limited else []
    table: list[list[Cell]] = []
    for row in rows:
        one = row.skill if row.skill and row.skill["n"] else None
        cells: list[Cell] = [row_label(row), _text(row, BEST), row.best_parent]
        cells += [None if one is None else row.style.difference(one)]
        cells += [_text(row, name) for name in models]
        cells += [_text(row, BEST, Split.VALIDATION) if row.split is not Split.VALIDATION else _text(row, BEST)]
        cells += [row.limit_text or None] if limited else []
        table.append(cells)
    return Table(columns, table, frozenset(i for i, row in enumerate(rows) if row.lost or row.broken))


def _text(row: EntryRow, model: str, split: Split | None = None) -> str | None:
    score: Score | None = row.score(model, split)
    return None if score is None else row.style.score(score)


def _lead(run: RunData, rows: Sequence[EntryRow]) -> str:
    judged = [row for row in rows if row.skill and row.skill["n"]]
    who = "The best merge" if run.chosen else "The best candidate so far"
    if run.best is None:
        return "No candidate has a score yet; these are the parents and the average."
    if not judged:
        own = [f"{_text(row, BEST)} in {named([row.label])}" for row in rows if row.score(BEST) is not None]
        return f"{who} has {listed(own, 3)}, on the {rows[0].split} items." if own else f"{who} has no score here."
    lost = [row for row in judged if row.lost]
    ahead = [row for row in judged if row.skill and row.skill["low"] > 0.0]
    level = [row for row in judged if row not in lost and row not in ahead]
    parts = []
    for verb, ones in (
        ("is worse than the best parent at", lost),
        ("is better than the best parent at", ahead),
        ("cannot be told from the best parent at", level),
    ):
        if ones:
            parts.append(f"{verb} {listed([_against(row) for row in ones], 3)}")
    said = f"{who} {'; it '.join(parts)}."
    broken = [row for row in rows if row.broken]
    if broken:
        said += f" It breaks {'a limit' if len(broken) == 1 else 'limits'} at {listed([r.label for r in broken], 3)}."
    return said


def _against(row: EntryRow) -> str:
    one = row.skill
    assert one is not None
    items = f"{one['n']} {one['split']} items"
    scores = f"{row.style.mean(one['mean'])} against {row.style.mean(one['parent_mean'])} of"
    return f"{named([row.label])} ({scores} {named([one['best_parent']])}: {row.style.difference(one)} on {items})"
