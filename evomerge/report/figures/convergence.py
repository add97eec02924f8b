"""How the optimizer converged: its step size and the axes of its distribution over the candidates."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import altair as alt

from evomerge.analysis.converging import CONVERGED, HARDLY, WIDTHS, converging, width_of
from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Cell, Figure, Table
from evomerge.report.groups import groups_of
from evomerge.report.numbers import seen
from evomerge.system.figures import percentage

HEIGHT = 280
MOST = 250
"""So many generations are drawn at most, and of several runs so many points of a band."""

TITLE = "share of a gene's range"
LONGEST, SHORTEST = "longest axis", "shortest axis"

_ROWS = 40


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw what the optimizers say of themselves; of several runs the step size, with bands over seeds."""
    return _of_one(runs[0]) if len(runs) == 1 else _of_several(runs)


def _of_one(run: RunData) -> Figure | None:
    course = [one for one in run.course if any(width_of(one, key) is not None for key in WIDTHS)]
    if not course:
        return None
    thin = -(-len(course) // MOST)
    shown = _thinned(course, thin)
    rows = [row for one in shown for row in _rows(one)]
    present = [name for name in (*WIDTHS.values(), LONGEST, SHORTEST) if any(row["what"] == name for row in rows)]
    axes = [{**_when(one), "long": seen(ends[0]), "short": seen(ends[1])} for one in shown if (ends := _ends(one))]
    x = alt.X("candidates:Q", title="candidates", axis=alt.Axis(tickMinStep=1))
    y = alt.Y("length:Q", title=TITLE, scale=_scale([row["length"] for row in rows]), axis=alt.Axis(format="~%"))
    lines = (
        alt.Chart(alt.NamedData("rows"))
        .mark_line(point=alt.OverlayMarkDef(size=24))
        .encode(
            x=x,
            y=y,
            color=alt.Color("what:N", scale=alt.Scale(domain=present), legend=alt.Legend(title=None, labelLimit=220)),
            detail="phase:N",
            tooltip=[
                alt.Tooltip("what:N", title="what"),
                alt.Tooltip("length:Q", title=TITLE, format=".3~%"),
                alt.Tooltip("candidates:Q", title="after candidates"),
                alt.Tooltip("generation:N", title="generation"),
                alt.Tooltip("restarts:N", title="restarts"),
            ],
        )
    )
    layers: list[alt.Chart] = []
    if axes:
        area = alt.Chart(alt.NamedData("axes")).mark_area(opacity=0.12, tooltip=False)
        layers.append(area.encode(x=x, y=alt.Y("long:Q", title=TITLE), y2="short:Q", detail="phase:N"))
    breaks = list(_breaks(course))
    if breaks:
        rule = alt.Chart(alt.NamedData("breaks")).mark_rule(strokeDash=[4, 3])
        layers.append(rule.encode(x=x, tooltip=[alt.Tooltip("why:N", title="here")]))
    chart = alt.layer(*layers, lines).properties(width="container", height=HEIGHT)
    notes = [f"Of {len(course):,} generations every {thin}th is drawn."] if thin > 1 else []
    if axes:
        notes.append(
            "The area lies between the longest and the shortest axis (standard deviations, once per generation)."
        )
    if breaks:
        notes.append("Dashed lines: a restart, or a further stage.")
    data = {"rows": rows, **({"axes": axes} if axes else {}), **({"breaks": breaks} if breaks else {})}
    return Figure(
        "convergence",
        "Convergence",
        _lead(course),
        chart=specification(chart, **data),
        table=_table(course, present),
        note=" ".join(notes),
    )


def _thinned(course: Sequence[Mapping[str, Any]], each: int) -> list[Mapping[str, Any]]:
    """Return every so manyth standing, and the last one."""
    return [one for place, one in enumerate(course) if place % each == 0 or place == len(course) - 1]


def _scale(lengths: Sequence[float]) -> alt.Scale:
    """Return a logarithmic scale with a little room around some lengths."""
    return alt.Scale(type="log", domain=[0.8 * min(lengths), 1.25 * max(lengths)], nice=False)


def _ends(one: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the longest and the shortest axis."""
    axes = one.get("axes")
    found = [float(axis) for axis in axes if isinstance(axis, (int, float))] if isinstance(axes, list) else []
    found = [axis for axis in found if math.isfinite(axis) and axis > 0.0]
    return (max(found), min(found)) if len(found) > 1 else None


def _when(one: Mapping[str, Any]) -> dict[str, Any]:
    phase = f"{one.get('stage', 0)}.{one.get('restarts', 0)}"
    known = {key: one.get(key) for key in ("generation", "restarts")}
    return {"candidates": one["candidates"], "phase": phase, **known}


def _rows(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, name in WIDTHS.items():
        length = width_of(one, key)
        if length is not None:
            yield {**_when(one), "what": name, "length": seen(length)}
    for name, length in zip((LONGEST, SHORTEST), _ends(one) or (), strict=False):
        yield {**_when(one), "what": name, "length": seen(length)}


def _breaks(course: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield where the optimizer restarted, or another stage began."""
    for before, one in pairwise(course):
        if one.get("stage", 0) != before.get("stage", 0):
            yield {"candidates": one["candidates"], "why": f"stage {one.get('stage', 0) + 1} begins"}
        elif one.get("restarts", 0) != before.get("restarts", 0):
            yield {"candidates": one["candidates"], "why": f"restart {one['restarts']}"}


def _lead(course: Sequence[Mapping[str, Any]]) -> str:
    last, found = course[-1], converging(course)
    assert found is not None, "a course without widths is not drawn"
    stage = " in the last stage" if last.get("stage", 0) else ""
    said = f"The {found.width} went from {_share(found.first)} to {_share(found.last)} of a gene's range{stage}"
    said += _generations(found.standings)
    if found.how == HARDLY:
        said += ", so the search had hardly begun to converge: more candidates may find better"
    elif found.how == CONVERGED:
        said += ", so the search has converged: more candidates of the same kind will change little"
    elif found.how is not None:
        said += ", so the search was closing in, and had not ended"
    ends = _ends(last)
    if ends is not None:
        said += f"; its distribution is {ends[0] / ends[1]:.2g} times as long as it is narrow"
    restarts = last.get("restarts") or 0
    return f"{said}. " + (f"It restarted {restarts} time{'s' * (restarts != 1)}." if restarts else "")


def _generations(own: Sequence[Mapping[str, Any]]) -> str:
    number = own[-1].get("generation")
    return f" within {number} generation{'s' * (number != 1)}" if isinstance(number, int) and number else ""


def _share(length: float) -> str:
    return f"{percentage(length)} %" if length >= 0.001 else f"{100 * length:.2g} %"


def _table(course: Sequence[Mapping[str, Any]], present: Sequence[str]) -> Table:
    rows: list[list[Cell]] = []
    for one in _thinned(course, -(-len(course) // _ROWS)):
        lengths = {row["what"]: row["length"] for row in _rows(one)}
        rows.append([one["candidates"], one.get("generation"), *(lengths.get(name) for name in present)])
    return Table(["after candidates", "generation", *present], rows)


# ---- several runs ----


def _of_several(runs: Sequence[RunData]) -> Figure | None:
    rows: list[dict[str, Any]] = []
    table: list[list[Cell]] = []
    groups = groups_of(runs)
    for group in groups:
        courses = [found for run in group.runs if len(found := list(_main(run))) > 1]
        if not courses:
            continue
        rows += list(_band(group.label, courses))
        ends = [lengths[-1][1] for lengths in courses]
        said = [seen(one) for one in (courses[0][0][1], sum(ends) / len(ends), min(ends), max(ends))]
        table.append([group.label, len(courses), *said])
    if not rows:
        return None
    labels = [group.label for group in groups]
    base = alt.Chart(alt.NamedData("rows"))
    x = alt.X("candidates:Q", title="candidates", axis=alt.Axis(tickMinStep=1))
    scale, title = _scale([row[end] for row in rows for end in ("low", "high")]), TITLE
    colour = alt.Color(
        "group:N", scale=alt.Scale(domain=labels), legend=alt.Legend(title=None, labelLimit=320, symbolOpacity=1)
    )
    band = base.mark_area(opacity=0.15, tooltip=False, interpolate="step-after")
    line = base.mark_line(interpolate="step-after", strokeWidth=2)
    tip = [
        alt.Tooltip("group:N", title="runs"),
        alt.Tooltip("length:Q", title="mean over seeds", format=".3~%"),
        alt.Tooltip("range:N", title="lowest to highest"),
        alt.Tooltip("candidates:Q", title="after candidates"),
    ]
    y = alt.Y("length:Q", title=title, scale=scale, axis=alt.Axis(format="~%"))
    chart = alt.layer(
        band.encode(x=x, y=alt.Y("low:Q", title=title, scale=scale), y2="high:Q", color=colour),
        line.encode(x=x, y=y, color=colour, tooltip=tip),
    ).properties(width="container", height=HEIGHT)
    fastest = min(table, key=lambda row: float(row[3] or 0.0))
    ended = ", ".join(f"{row[0]} at {_share(float(row[3] or 0.0))}" for row in table)
    lead = f"Where the step sizes (or what stands for them) ended, in shares of a gene's range: {ended}."
    if len(table) > 1:
        lead += f" The narrowest is that of {fastest[0]}."
    return Figure(
        "convergence",
        "Convergence",
        lead,
        chart=specification(chart, rows=rows),
        table=Table(["runs", "number", "at first", "at the end, mean", "lowest", "highest"], table),
        note="Runs whose optimizer says nothing of itself are left out.",
    )


def _main(run: RunData) -> Iterator[tuple[int, float]]:
    """Yield after how many candidates of a run its first known width was what."""
    key = next((key for key in WIDTHS if any(width_of(one, key) is not None for one in run.course)), None)
    for one in run.course:
        length = None if key is None else width_of(one, key)
        if length is not None:
            yield one["candidates"], length


def _band(label: str, courses: Sequence[Sequence[tuple[int, float]]]) -> Iterator[dict[str, Any]]:
    starts = [[place for place, _ in course] for course in courses]
    first, last = max(one[0] for one in starts), min(one[-1] for one in starts)
    places = sorted({place for one in starts for place in one if first <= place <= last})
    for place in places[:: -(-len(places) // MOST)]:
        values = [course[bisect_right(one, place) - 1][1] for one, course in zip(starts, courses, strict=True)]
        low, high = min(values), max(values)
        shown = {
            "low": seen(low),
            "high": seen(high),
            "length": seen(math.exp(math.fsum(map(math.log, values)) / len(values))),
        }
        text = f"{_share(low)} to {_share(high)}" if len(values) > 1 else "–"
        yield {"group": label, "candidates": place, **shown, "range": text}
