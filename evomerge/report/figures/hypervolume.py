"""How good the whole front was, over candidates, items and seconds: its hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evomerge.analysis.hypervolume import hypervolume_course, reference_point
from evomerge.report.course import CANDIDATES, spent_by
from evomerge.report.course_chart import Reached, band_chart, band_rows
from evomerge.report.data import RunData
from evomerge.report.figure import Cell, Figure, Table
from evomerge.report.groups import groups_of
from evomerge.report.numbers import ScoreStyle, objective_styles, seen
from evomerge.report.searched import named

KEY = "hypervolume"
_STYLE = ScoreStyle(share=False)


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the hypervolume of runs with the same objectives; None for a single objective."""
    names = list(objective_styles(runs[0]))
    same = [run for run in runs if list(objective_styles(run)) == names and any(r.result for r in run.records)]
    if len(names) < 2 or not same or same[0].objectives is None:
        return None
    signs = [-1.0 if one.direction == "minimize" else 1.0 for one in same[0].objectives.objectives]
    shares = [all(objective_styles(run)[name].share for run in same) for name in names]
    worst = [(0.0 if sign > 0.0 else -1.0) if share else None for share, sign in zip(shares, signs, strict=True)]
    reference = reference_point(
        [record.result for run in same for record in run.baselines if record.result is not None],
        [record.result for run in same for record in run.records if record.result is not None],
        worst,
    )
    groups = groups_of(same)
    rows: list[dict[str, Any]] = []
    table: list[list[Cell]] = []
    for group in groups:
        courses = [_course(run, reference) for run in group.runs]
        rows += list(band_rows(group, courses, _STYLE))
        finals = [course[-1][1] for course in courses]
        table.append(
            [group.label, len(finals), *(seen(one) for one in (sum(finals) / len(finals), min(finals), max(finals)))]
        )
    chart = band_chart(KEY, rows, [group.label for group in groups], "hypervolume", _STYLE, zero=True)
    places = ", ".join(
        f"{sign * place:.4g} in {named([name])}" for name, sign, place in zip(names, signs, reference, strict=True)
    )
    note = (
        f"The volume, in the space of the objectives, that some candidate within all limits dominates, measured from "
        f"{places}: the worst that is possible, or else the worst parent or average of the runs shown."
    )
    if len(same) > 1:
        note += " Lines are means over seeds, bands go from the lowest to the highest."
    columns = ["runs", "number", "hypervolume at the end (mean)", "lowest", "highest"]
    return Figure(KEY, "Hypervolume", _lead(rows, table), chart=chart, table=Table(columns, table), note=note)


def _course(run: RunData, reference: Sequence[float]) -> Reached:
    volumes = hypervolume_course([record.result for record in run.records], reference)
    return [(spent_by(run, record), volume) for record, volume in zip(run.records, volumes, strict=True)]


def _lead(rows: Sequence[dict[str, Any]], table: Sequence[Sequence[Cell]]) -> str:
    if len(table) > 1:
        ends = ", ".join(f"{float(row[2] or 0.0):.4g} ({row[0]})" for row in table)
        return f"The hypervolume of the front at the end: {ends}; larger is better."
    points = [(row["x"], row["score"]) for row in rows if row["over"] == CANDIDATES]
    last = points[-1][1]
    if not last:
        return "No candidate is better than the reference in every objective, so the front covers nothing yet."
    when = next(x for x, value in points if value >= 0.9 * last)
    return (
        f"The front covers a hypervolume of {last:.4g} at the end; nine tenths of that were there after {when:g} of "
        f"{points[-1][0]:g} candidates."
    )
