"""Charts over candidates, items or seconds, of which the reader chooses one; bands over seeds among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from evomerge.report.chart import specification
from evomerge.report.course import OVER, bands, known
from evomerge.report.groups import RunGroup
from evomerge.report.numbers import ScoreStyle, seen

HEIGHT = 320
_MOST = 100
"""So many points of a band at most."""


class OverAxis:
    """What a chart is looked at over: one of `OVER`, or a choice of several.

    Args:
        key: the figure's, by which the choice is named.
        over: what there is to choose from.
    """

    def __init__(self, key: str, over: Sequence[str]) -> None:
        self.over = list(over)
        self._parameter = f"{key.replace('-', '_')}_over"

    @property
    def x(self) -> alt.X:
        """The axis."""
        axis, scale = alt.Axis(tickMinStep=1, format=",~f"), alt.Scale(zero=False, nice=False)
        return alt.X("x:Q", title=self.over[0], scale=scale, axis=axis)

    @property
    def tooltips(self) -> list[alt.Tooltip]:
        """What was spent, for rows that have a field for each of `over`."""
        return [alt.Tooltip(f"{name}:Q", title=f"after {name}", format=",.4~f") for name in self.over]

    def layer(self, name: str) -> alt.Chart:
        """Return a chart of named data whose rows have a field for each of `over`."""
        place = f"datum['{self.over[0]}']" if len(self.over) == 1 else f"datum[{self._parameter}]"
        return alt.Chart(alt.NamedData(name)).transform_calculate(x=place)

    def filtered(self, name: str) -> alt.Chart:
        """Return a chart of named data whose rows say by `over` for which choice they are, and have `x`."""
        chosen = f"datum.over == '{self.over[0]}'" if len(self.over) == 1 else f"datum.over == {self._parameter}"
        return alt.Chart(alt.NamedData(name)).transform_filter(chosen)

    def chart(self, layers: Sequence[alt.Chart], data: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
        """Return the specification of some layers, with the means to choose."""
        made = alt.layer(*layers, width="container", height=HEIGHT)
        if len(self.over) > 1:
            radio = alt.binding_radio(options=self.over, name="over ")
            made = made.add_params(alt.param(name=self._parameter, value=self.over[0], bind=radio))
        found = specification(made, **data)
        for layer in found["layer"] if len(self.over) > 1 else ():
            if "x" in layer["encoding"]:  # a title that follows a choice is known to Vega-Lite, but not to its schema
                layer["encoding"]["x"]["title"] = {"signal": self._parameter}
        return found


Reached = Sequence[tuple[Mapping[str, float], float]]
"""What a search had spent, and the value that it had reached, the earliest first."""


def band_rows(group: RunGroup, courses: Sequence[Reached], style: ScoreStyle) -> Iterator[dict[str, Any]]:
    """Yield the points of a group's bands, for whatever is known of each of its searches.

    Args:
        group: runs that differ in the seed alone.
        courses: those of its searches that reached anything; the last point is where the search ended.
        style: how values are shown.
    """
    for over in OVER:
        if not all(over in known([spent for spent, _ in course]) for course in courses):
            continue
        ends = [course[-1][0][over] for course in courses]
        for one in bands([[(spent[over], value) for spent, value in course] for course in courses], ends, _MOST):
            row = {"group": group.label, "over": over, "x": seen(one.spent), "score": seen(one.mean)}
            text = f"{style.mean(one.low)} to {style.mean(one.high)}" if one.n > 1 else "–"
            yield {**row, "low": seen(one.low), "high": seen(one.high), "mean": style.mean(one.mean), "range": text}


def band_chart(
    key: str,
    rows: Sequence[dict[str, Any]],
    labels: Sequence[str],
    title: str,
    style: ScoreStyle,
    *,
    zero: bool = False,
) -> dict[str, Any]:
    """Return a chart of bands: a line for the mean of each group, and an area from the lowest to the highest.

    Args:
        key: the figure's.
        rows: as `band_rows` yields them, of all groups; only what all groups have can be chosen.
        labels: of the groups, in their order.
        title: of the vertical axis.
        style: how values are shown.
        zero: whether the vertical axis begins at zero.
    """
    present = {(row["group"], row["over"]) for row in rows}
    groups = {group for group, _ in present}
    axis = OverAxis(key, [name for name in OVER if all((group, name) in present for group in groups)])
    base = axis.filtered("bands")
    legend = alt.Legend(title=None, labelLimit=320, symbolOpacity=1) if len(labels) > 1 else None
    colour = alt.Color("group:N", scale=alt.Scale(domain=list(labels)), legend=legend)
    y = alt.Y("score:Q", title=title, axis=alt.Axis(format=style.axis), scale=alt.Scale(zero=zero))
    area = base.mark_area(interpolate="step-after", opacity=0.15, tooltip=False)
    tip = [
        alt.Tooltip("group:N", title="runs"),
        alt.Tooltip("mean:N", title="mean"),
        alt.Tooltip("range:N", title="lowest to highest"),
        alt.Tooltip("x:Q", title="after", format=",.4~f"),
        alt.Tooltip("over:N", title="of"),
    ]
    layers = [
        area.encode(x=axis.x, y=alt.Y("low:Q", title=title), y2="high:Q", color=colour),
        base.mark_line(interpolate="step-after", strokeWidth=2).encode(x=axis.x, y=y, color=colour, tooltip=tip),
    ]
    return axis.chart(layers, {"bands": [row for row in rows if row["over"] in axis.over]})
