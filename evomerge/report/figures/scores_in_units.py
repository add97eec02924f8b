"""How good models are at what is no share: tokens, perplexities, distances, each in its own unit and direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from evomerge.analysis.lost_skills import listed
from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.entry_rows import EntryRow, entry_rows, model_order
from evomerge.report.figure import Figure
from evomerge.report.figures.scores import MARKS, row_label, score_marks, score_tips
from evomerge.report.numbers import seen
from evomerge.report.searched import named
from evomerge.report.style import BEST, model_names

_PARAMETER = "unit_entry"
_ROW = 26


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the scores of one run that are no shares; where they are several, one at a time."""
    if len(runs) != 1:
        return None
    run = runs[0]
    rows = [row for row in entry_rows(run) if not row.style.share and any(model_order(run, [row]))]
    if not rows:
        return None
    choose = " Choose what is shown below the chart." if len(rows) > 1 else ""
    return Figure(
        "scores-in-units",
        "Scores in other units",
        _lead(run, rows),
        chart=_chart(run, rows),
        note=f"{MARKS} Gains are above 0 where the merge is better.{choose}",
    )


def _chart(run: RunData, rows: Sequence[EntryRow]) -> dict[str, Any]:
    models = list(model_order(run, rows))
    chosen = f"datum.task == {_PARAMETER}" if len(rows) > 1 else "true"
    values = [value for row in rows for model in models for value in score_marks(row, model)]
    base = alt.Chart(alt.NamedData("scores")).transform_filter(chosen)
    y = alt.Y("model:N", sort=models, title=None, axis=alt.Axis(ticks=False, domain=False, labelLimit=150))
    colour = alt.Color("model:N", scale=alt.Scale(domain=list(model_names(run))), legend=None)
    x = alt.X("score:Q", title=row_label(rows[0]), scale=alt.Scale(zero=False))
    how: dict[str, Any] = {"y": y, "color": colour, "tooltip": list(score_tips())}
    compared = base.transform_filter("datum.kind == 'compared'")
    further = base.transform_filter("datum.kind == 'further'")
    layers: list[Any] = [
        compared.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=row_label(rows[0])), x2="high:Q", **how),
        further.mark_point(shape="diamond", size=45, strokeWidth=1.5).encode(x=x, **how),
        compared.mark_point(filled=True, size=75, opacity=1).encode(x=x, **how),
    ]
    limits = [
        {"task": row_label(row), "model": BEST, "score": seen(row.limit), "text": row.limit_text}
        for row in rows
        if row.limit is not None
    ]
    if limits:
        bars = alt.Chart(alt.NamedData("limits")).transform_filter(chosen).mark_tick(thickness=3, size=_ROW)
        layers.append(bars.encode(y=y, x=x, tooltip=[alt.Tooltip("task:N"), alt.Tooltip("text:N", title="limit")]))
    made = alt.layer(*layers, width="container", height=max(100, min(360, _ROW * len(models) + 20)))
    if len(rows) > 1:
        select = alt.binding_select(options=[row_label(row) for row in rows], name="shown: ")
        made = made.add_params(alt.param(name=_PARAMETER, value=row_label(rows[0]), bind=select))
    data = specification(made, scores=values, **({"limits": limits} if limits else {}))
    for layer in data["layer"] if len(rows) > 1 else ():
        layer["encoding"]["x"]["title"] = {"signal": _PARAMETER}  # known to Vega-Lite, but not to its schema
    return data


def _lead(run: RunData, rows: Sequence[EntryRow]) -> str:
    who = "The best merge" if run.chosen else "The best candidate so far"
    parts = []
    for row in rows:
        own = row.score(BEST)
        if own is None:
            continue
        less = ", less is better" if row.spec.direction == "minimize" else ""
        against = ""
        if row.skill and row.skill["n"]:
            against = f", {row.style.difference(row.skill)} against {named([row.skill['best_parent']])}"
        parts.append(f"{row.style.score(own)} in {named([row.label])} ({row.split} items{less}{against})")
    return f"{who} has {listed(parts, 3)}." if parts else "Parents and average in what is no share."
