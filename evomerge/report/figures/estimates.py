"""What the scores by which the search went are worth: estimates, or search scores, beside validation scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from evomerge.analysis.estimates import Compared, agreement, compared_scores
from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Figure, Table
from evomerge.report.groups import labels_of
from evomerge.report.numbers import ScoreStyle, score_style, seen

FINALISTS, BASELINES = "finalists", "parents, average"

_MIXES = (
    "The difference of the two scores mixes the luck of the items with the choice of the finalists, who were chosen "
    "for their search scores; parents and average were not."
)
_ESTIMATED = (
    "A candidate that was asked about a part of the search items has no full score on them, so its estimate stands "
    "beside its validation score. "
)


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw search scores against validation scores, with the intervals of both."""
    pairs = {run: compared_scores(run.run, [*run.baselines, *run.records]) for run in runs}
    chosen = {run: [one for one in own if not one.record.is_baseline] for run, own in pairs.items()}
    styles = {score_style(run) for run in runs if chosen[run]}
    if not any(chosen.values()) or len(styles) > 1:
        return None
    style = styles.pop()
    several = len(runs) > 1
    labels = dict(zip(runs, labels_of(runs), strict=True)) if several else {runs[0]: runs[0].label}
    rows = [
        _row(labels[run], one) for run, own in pairs.items() for one in own if not several or not one.record.is_baseline
    ]
    estimated = any(one.estimated for own in chosen.values() for one in own)
    return Figure(
        "estimates",
        "Estimates beside validation scores" if estimated else "Search scores beside validation scores",
        _lead(list(chosen.values()), style) + _yardstick(pairs, style, several),
        chart=_chart(
            rows,
            style,
            [labels[run] for run in runs if chosen[run]] if several else [FINALISTS, BASELINES],
            several,
            estimated,
        ),
        table=_table({labels[run]: own for run, own in pairs.items()}, style, several, estimated),
        note=(_ESTIMATED if estimated else "") + _MIXES,
    )


def _row(label: str, one: Compared) -> dict[str, Any]:
    return {
        "run": label,
        "kind": BASELINES if one.record.is_baseline else FINALISTS,
        "name": one.record.name,
        "asked": f"{one.search.n} of {one.items} items",
        "x": seen(one.search.mean),
        "x1": seen(one.search.low),
        "x2": seen(one.search.high),
        "y": seen(one.validation.mean),
        "y1": seen(one.validation.low),
        "y2": seen(one.validation.high),
        "error": seen(one.error),
    }


def _chart(
    rows: Sequence[Mapping[str, Any]], style: ScoreStyle, names: Sequence[str], several: bool, estimated: bool
) -> dict[str, Any]:
    ends = [row[key] for row in rows for key in ("x", "x1", "x2", "y", "y1", "y2") if row[key] is not None]
    least, most = min(ends), max(ends)
    scale = alt.Scale(domain=[least, most], nice=True, zero=False)
    what = "estimate on the search items" if estimated else "score on the search items"
    tooltip = [
        *([alt.Tooltip("run:N")] if several else []),
        alt.Tooltip("name:N"),
        alt.Tooltip("asked:N"),
        *(
            alt.Tooltip(f"{field}:Q", title=title, format=style.tooltip)
            for field, title in (
                ("x", "search"), ("x1", "from"), ("x2", "to"), ("y", "validation"), ("y1", "from "), ("y2", "to "),
                ("error", "difference"),
            )
        ),
    ]  # fmt: skip
    base = alt.Chart(alt.NamedData("rows")).encode(
        x=alt.X("x:Q", title=what, scale=scale, axis=alt.Axis(format=style.axis)),
        y=alt.Y("y:Q", title="score on the validation items", scale=scale, axis=alt.Axis(format=style.axis)),
        color=alt.Color("run:N" if several else "kind:N", sort=list(names), title=None),
        tooltip=tooltip,
    )
    equal = (
        alt.Chart(alt.NamedData("equal"))
        .mark_rule(strokeDash=[4, 4])
        .encode(x=alt.X("x:Q", scale=scale), y=alt.Y("x:Q", scale=scale), x2="y:Q", y2="y:Q")
    )
    chart = alt.layer(
        equal,
        base.mark_rule(opacity=0.45).encode(x=alt.X("x1:Q", scale=scale, title=what), x2="x2:Q"),
        base.mark_rule(opacity=0.45).encode(
            y=alt.Y("y1:Q", scale=scale, title="score on the validation items"), y2="y2:Q"
        ),
        base.mark_point(filled=True, size=60, opacity=0.9),
    ).properties(width="container", height=320)
    return specification(chart, rows=rows, equal=[{"x": least, "y": most}])


def _lead(chosen: Sequence[Sequence[Compared]], style: ScoreStyle) -> str:
    each = [one for one in map(agreement, chosen) if one is not None]
    every = [one for own in chosen for one in own]
    found = agreement(every)
    if found is None:
        return ""
    what = "search scores"
    estimated = [one for one in every if one.estimated]
    if estimated:
        asked = sorted({one.search.n for one in estimated})
        n = f"{asked[0]}" if len(asked) == 1 else f"{asked[0]} to {asked[-1]}"
        what = f"estimates from {n} of {estimated[0].items} search items"
    errors = [one.error for one in each]
    runs = f" ({style.change(min(errors))} to {style.change(max(errors))} by run)" if len(each) > 1 else ""
    return (
        f"The {what} of {found.n} finalists are {_beside(found.error, style)} their validation scores on "
        f"average{runs}, {style.change(found.distance).lstrip('+')} whatever the sign; {found.hold} of "
        f"{found.n} agree within their 95 % intervals."
    )


def _beside(error: float, style: ScoreStyle) -> str:
    if error == 0.0:
        return "equal to"
    return f"{style.change(error).lstrip('+-')} {'above' if error > 0.0 else 'below'}"


def _yardstick(pairs: Mapping[RunData, Sequence[Compared]], style: ScoreStyle, several: bool) -> str:
    found = agreement([one for own in pairs.values() for one in own if one.record.is_baseline])
    if found is None or several:
        return ""
    return f" Those of parents and average are {_beside(found.error, style)} theirs."


def _table(pairs: Mapping[str, Sequence[Compared]], style: ScoreStyle, several: bool, estimated: bool) -> Table:
    rows: list[list[Any]] = []
    marked = set()
    for label, own in pairs.items():
        for one in own:
            low, high = one.interval
            if not one.holds:
                marked.add(len(rows))
            rows.append(
                [
                    *([label] if several else []),
                    one.record.name,
                    one.search.n,
                    style.score(one.search),
                    *([None if one.last is None else style.mean(one.last)] if estimated else []),
                    style.score(one.validation),
                    style.difference({"difference": one.error, "low": low, "high": high}),
                    "yes" if one.holds else "no",
                ]
            )
    columns = [
        *(["run"] if several else []),
        *("model", "items asked", "search" if not estimated else "search (estimate)"),
        *(["estimate at the end"] if estimated else []),
        *("validation", "search above validation", "agree"),
    ]
    return Table(columns, rows, frozenset(marked))
