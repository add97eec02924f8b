"""One score of each model beside another one of it: a point with its intervals, and the line of equal scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from evomerge.analysis.estimates import Agreement
from evomerge.report.chart import specification
from evomerge.report.numbers import ScoreStyle


def beside_chart(
    rows: Sequence[Mapping[str, Any]],
    style: ScoreStyle,
    *,
    colour: str,
    names: Sequence[str],
    titles: tuple[str, str],
    words: Mapping[str, str],
) -> dict[str, Any]:
    """Return the specification of a chart.

    Args:
        rows: `name`, `asked`, `x` and `y`, where they have intervals `x1`, `x2`, `y1`, `y2`, and `error`, their
            difference; the field of the colour.
        style: of the scores.
        colour: the field by which points are coloured.
        names: its values, in their order.
        titles: of the two axes.
        words: what the fields with numbers are called in the tooltip, in its order.
    """
    ends = [one for row in rows for key in ("x", "x1", "x2", "y", "y1", "y2") if (one := row.get(key)) is not None]
    least, most = min(ends), max(ends)
    scale = alt.Scale(domain=[least, most], nice=True, zero=False)
    texts = dict.fromkeys((*(["run"] if colour == "run" else []), "name", "asked"))
    base = alt.Chart(alt.NamedData("rows")).encode(
        x=alt.X("x:Q", title=titles[0], scale=scale, axis=alt.Axis(format=style.axis)),
        y=alt.Y("y:Q", title=titles[1], scale=scale, axis=alt.Axis(format=style.axis)),
        color=alt.Color(f"{colour}:N", sort=list(names), title=None),
        tooltip=[
            *(alt.Tooltip(f"{field}:N") for field in texts),
            *(alt.Tooltip(f"{field}:Q", title=title, format=style.tooltip) for field, title in words.items()),
        ],
    )
    equal = (
        alt.Chart(alt.NamedData("equal"))
        .mark_rule(strokeDash=[4, 4])
        .encode(x=alt.X("x:Q", scale=scale), y=alt.Y("x:Q", scale=scale), x2="y:Q", y2="y:Q")
    )
    layers = [equal]
    if "x1" in words:
        layers.append(base.mark_rule(opacity=0.45).encode(x=alt.X("x1:Q", scale=scale, title=titles[0]), x2="x2:Q"))
    layers += [
        base.mark_rule(opacity=0.45).encode(y=alt.Y("y1:Q", scale=scale, title=titles[1]), y2="y2:Q"),
        base.mark_point(filled=True, size=60, opacity=0.9),
    ]
    chart = alt.layer(*layers).properties(width="container", height=320)
    return specification(chart, rows=rows, equal=[{"x": least, "y": most}])


def above(error: float, style: ScoreStyle) -> str:
    """Return "1.2 points above", "1.2 points below", or "equal to"."""
    if error == 0.0:
        return "equal to"
    return f"{style.change(error).lstrip('+-')} {'above' if error > 0.0 else 'below'}"


def by_run(each: Sequence[Agreement], style: ScoreStyle) -> str:
    """Return " (+0.3 points to +2.1 points by run)", or "" for one run."""
    errors = [one.error for one in each]
    return f" ({style.change(min(errors))} to {style.change(max(errors))} by run)" if len(each) > 1 else ""
