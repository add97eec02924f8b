"""The best score so far, candidate by candidate."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from evomerge.record import Split
from evomerge.report.data import RunData, best_so_far, score
from evomerge.report.figure import Figure


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the course of the best score."""
    rows = [
        {"run": run.label, "candidate": record.number, "best": best_score.mean, "name": best.name}
        for run in runs
        for record, best in best_so_far(run.records)
        if (best_score := score(best, Split.SEARCH)) is not None
    ]
    if not rows:
        return None
    chart = (
        alt.Chart(alt.Data(values=rows), width="container", height=260)
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("candidate:Q", title="candidates"),
            y=alt.Y("best:Q", title="best score so far", scale=alt.Scale(zero=False)),
            color=alt.Color("run:N", legend=None if len(runs) == 1 else alt.Legend()),
            tooltip=["run:N", "candidate:Q", "name:N", alt.Tooltip("best:Q", format=".1%")],
        )
    )
    return Figure("progress", "Progress", "The best score on the search items so far.", chart=chart.to_dict())
