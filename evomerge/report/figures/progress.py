"""How the search went: every candidate, and the best so far, over candidates, items and seconds.

Several runs: the best so far of each group of runs that differ in the seed alone, as their mean with a band.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from evomerge.record import Record, Split, State
from evomerge.report.course import CANDIDATES, SECONDS, SearchPoint, course_of, known, spent_by
from evomerge.report.course_chart import HEIGHT, OverAxis, band_chart, band_rows
from evomerge.report.data import RunData, score
from evomerge.report.figure import Cell, Figure, Table
from evomerge.report.groups import groups_of
from evomerge.report.numbers import ScoreStyle, score_style, seen
from evomerge.report.searched import named
from evomerge.report.style import BEST, model_names
from evomerge.system.text import cut, duration

KEY = "progress"
_MOST, _STEPS = 1200, 40
"""So many candidates and rows of the table at most."""
_LONGEST = 160


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the course of one search, or of several together."""
    return _of_one(runs[0]) if len(runs) == 1 else _of_several(runs)


# ---- one run ----


def _of_one(run: RunData) -> Figure | None:
    if not run.records:
        return None
    points, style = list(course_of(run)), score_style(run)
    step = -(-len(run.records) // _MOST)
    shown = [one for place, one in enumerate(run.records) if place % step == 0 or one is run.best]
    note = "The coloured area is the 95 % interval of the best so far; bars at the bottom are candidates that failed."
    note += f" Of {len(run.records):,} candidates every {step}th is drawn." if step > 1 else ""
    return Figure(
        KEY,
        "Progress",
        _lead(run, points, style),
        chart=_chart(run, points, shown, style),
        table=_steps(points, style) if points else None,
        note=note,
    )


def _chart(run: RunData, points: Sequence[SearchPoint], shown: Sequence[Record], style: ScoreStyle) -> dict[str, Any]:
    axis = OverAxis(KEY, known([point.spent for point in points]) or [CANDIDATES])
    x, when = axis.x, axis.tooltips
    rules = list(_baselines(run, style))
    present = [BEST] * bool(points) + [row["model"] for row in rules]
    legend = alt.Legend(title=None, values=present, symbolType="stroke", symbolOpacity=1)
    colour = alt.Color("model:N", scale=alt.Scale(domain=list(model_names(run))), legend=legend)
    y = alt.Y("score:Q", title=_y_title(style), axis=alt.Axis(format=style.axis), scale=alt.Scale(zero=False))
    own = alt.Tooltip("text:N", title="score on the search items")
    splits = [alt.Tooltip(f"{split}:N", title=f"{split} score") for split in (Split.VALIDATION, Split.TEST)]
    name = alt.Tooltip("name:N", title="candidate")
    failed = [record for record in shown if record.state in (State.FAILED, State.INVALID)]
    stages = list(_stages(run))
    data = {
        "best": list(_line(points, run, style)),
        "rules": rules,
        "candidates": list(_scored(run, shown, style)),
        "further": list(_further(run, style)),
        "failed": [_failure(run, record) for record in failed],
        "stages": stages if len(stages) > 1 else [],
    }
    layers: list[alt.Chart] = []
    best = axis.layer("best")
    if data["best"]:
        area = best.mark_area(interpolate="step-after", opacity=0.15, tooltip=False)
        layers.append(area.encode(x=x, y=alt.Y("low:Q", title=_y_title(style)), y2="high:Q", color=colour))
    if rules:
        dashed = alt.Chart(alt.NamedData("rules")).mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
        layers.append(dashed.encode(y=y, color=colour, tooltip=[alt.Tooltip("model:N"), own]))
    if data["candidates"]:
        note = alt.Tooltip("said:N", title="note")
        dots = axis.layer("candidates").mark_point(filled=True, size=28, opacity=0.45)
        layers.append(dots.encode(x=x, y=y, color=colour, tooltip=[name, own, *splits, note, *when]))
    if data["best"]:
        steps = best.mark_line(interpolate="step-after", strokeWidth=2)
        first = alt.Tooltip("name:N", title="best so far")
        layers.append(steps.encode(x=x, y=y, color=colour, tooltip=[first, own, *when]))
    if further := data["further"]:
        shape = alt.Shape(
            "split:N",
            scale=alt.Scale(domain=[str(Split.VALIDATION), str(Split.TEST)], range=["diamond", "square"]),
            legend=alt.Legend(title=None, values=list(dict.fromkeys(row["split"] for row in further))),
        )
        dots = axis.layer("further").mark_point(filled=False, size=80, strokeWidth=1.8)
        layers.append(dots.encode(x=x, y=y, shape=shape, color=colour, tooltip=[name, *splits, own, *when]))
    if data["failed"]:
        bars = axis.layer("failed").mark_rule(strokeWidth=2)
        why = alt.Tooltip("error:N", title="failed")
        layers.append(bars.encode(x=x, y=alt.value(HEIGHT - 9), y2=alt.value(HEIGHT), tooltip=[name, why, *when]))
    if data["stages"]:
        begun = axis.layer("stages")
        layers.append(begun.mark_rule().encode(x=x, tooltip=alt.Tooltip("stage:N")))
        layers.append(
            begun.mark_text(align="left", dx=4, dy=2, baseline="top").encode(x=x, y=alt.value(0), text="stage:N")
        )
    return axis.chart(layers, {name: rows for name, rows in data.items() if rows})


def _y_title(style: ScoreStyle) -> str:
    return "worst task, relative to its best parent" if style.worst else "score on the search items"


def _line(points: Sequence[SearchPoint], run: RunData, style: ScoreStyle) -> Iterator[dict[str, Any]]:
    """Yield a row where the best changes, and one at the end of the search."""
    before: Record | None = None
    for point in points:
        if point.best is not before:
            before = point.best
            yield _best_row(point, style, point.spent)
    last = run.records[-1]
    if points and last is not points[-1].best:
        yield _best_row(points[-1], style, {**points[-1].spent, **spent_by(run, last)})


def _best_row(point: SearchPoint, style: ScoreStyle, spent: Any) -> dict[str, Any]:
    low, high = seen(point.score.low), seen(point.score.high)
    own = {"model": BEST, "name": point.best.name, "score": seen(point.score.mean), "text": style.score(point.score)}
    return {**own, "low": low, "high": high, **spent}


def _scored(run: RunData, records: Sequence[Record], style: ScoreStyle) -> Iterator[dict[str, Any]]:
    """Yield a row for each candidate with a score."""
    most = run.n_items.get(Split.SEARCH, 0)
    for record in records:
        own = score(record, Split.SEARCH)
        if own is None or (mean := seen(own.mean)) is None:
            continue
        notes = []
        if record.same_as is not None:
            notes.append(f"the recipe of candidate {record.same_as}")
        if record.result is not None and record.result.violation > 0.0:
            notes.append("breaks a limit")
        if own.n < most:
            notes.append(f"of {own.n} items")
        row = {"model": BEST, "name": record.name, "score": mean, "text": style.score(own), **spent_by(run, record)}
        yield {**row, "said": "; ".join(notes) or "–", **_elsewhere(record, style)}


def _elsewhere(record: Record, style: ScoreStyle) -> dict[str, str]:
    """Return the scores on the other splits in words."""
    found = {split: score(record, split) for split in (Split.VALIDATION, Split.TEST)}
    return {str(split): "–" if one is None else style.score(one) for split, one in found.items()}


def _further(run: RunData, style: ScoreStyle) -> Iterator[dict[str, Any]]:
    """Yield a row for each score on validation and test items."""
    for record in run.records:
        for split in (Split.VALIDATION, Split.TEST):
            one = score(record, split)
            if one is not None and (mean := seen(one.mean)) is not None and record.same_as is None:
                own = score(record, Split.SEARCH)
                row = {"model": BEST, "name": record.name, "split": str(split), "score": mean}
                text = "–" if own is None else style.score(own)
                yield {**row, "text": text, **_elsewhere(record, style), **spent_by(run, record)}


def _failure(run: RunData, record: Record) -> dict[str, Any]:
    return {"name": record.name, "error": cut(record.error or "–", _LONGEST), **spent_by(run, record)}


def _baselines(run: RunData, style: ScoreStyle) -> Iterator[dict[str, Any]]:
    """Yield the best parent and the average, on the search items."""
    parent = run.status["best_parent"]
    others = {row["name"] for row in run.status["baselines"] if row.get("parent", True)} - {parent}
    for record in run.baselines:
        own = score(record, Split.SEARCH)
        if record.name not in others and own is not None and (mean := seen(own.mean)) is not None:
            yield {"model": record.name, "score": mean, "text": style.score(own)}


def _stages(run: RunData) -> Iterator[dict[str, Any]]:
    """Yield where each stage begins."""
    names, before = list(run.config.get("stages") or ()), None
    for record in run.records:
        trace = run.traces.get(record.number)
        if trace is not None and trace.stage != before:
            before = trace.stage
            name = names[before] if before < len(names) else f"stage {before + 1}"
            yield {"stage": str(name), **spent_by(run, record)}


def _lead(run: RunData, points: Sequence[SearchPoint], style: ScoreStyle) -> str:
    n, failed = len(run.records), run.status["failed"]
    if not points:
        return f"None of {n:,} candidates has a score: {failed:,} failed."
    last = points[-1]
    when = next(point for point in points if point.best is last.best)
    spent = [f"{when.spent['items']:,.0f} items"] if "items" in when.spent else []
    spent += [duration(when.spent[SECONDS])] if SECONDS in when.spent else []
    after = f" (after {' and '.join(spent)})" if spent else ""
    said = [
        f"The best of {n:,} candidates on the search items, {named([last.best.name])}{after}, reaches "
        f"{style.score(last.score)}"
    ]
    parent = score(run.best_parent, Split.SEARCH)
    if run.best_parent is not None and parent is not None:
        said.append(f"{named([run.best_parent.name])}, the best parent, has {style.mean(parent.mean)} there")
        gain = last.score.mean - parent.mean
        if gain > 0.0:
            most = next(point for point in points if point.score.mean >= parent.mean + 0.9 * gain)
            n_most = round(most.spent[CANDIDATES])
            when_most = "with the first candidate" if n_most == 1 else f"after {n_most:,} candidates"
            if n_most < when.spent[CANDIDATES]:
                said.append(f"nine tenths of that gain were there {when_most}")
    failures = f" {failed:,} candidate{'s' * (failed != 1)} failed." if failed else ""
    return "; ".join(said) + "." + failures


def _steps(points: Sequence[SearchPoint], style: ScoreStyle) -> Table:
    """Return the table of the improvements, the latest ones where there are many."""
    over = known([point.spent for point in points])
    firsts: dict[int, SearchPoint] = {}
    for point in points:
        firsts.setdefault(point.best.number, point)
    rows: list[list[Cell]] = [
        [point.best.name, *(_plain(point.spent[name]) for name in over), style.score(point.score)]
        for point in list(firsts.values())[-_STEPS:]
    ]
    return Table(["best so far", *(f"after {name}" for name in over), "score on the search items"], rows)


def _plain(value: float) -> Cell:
    return int(value) if value.is_integer() else round(value, 1)


# ---- several runs ----


def _of_several(runs: Sequence[RunData]) -> Figure | None:
    groups = groups_of(runs)
    style = score_style(runs[0])
    rows: list[dict[str, Any]] = []
    table: list[list[Cell]] = []
    told: list[tuple[float, str]] = []
    common_end = min((len(run.records) for run in runs if any(True for _ in course_of(run))), default=0)
    for group in groups:
        courses = [(run, points) for run in group.runs if (points := list(course_of(run)))]
        if not courses:
            continue
        rows += list(band_rows(group, [list(_reached(run, points)) for run, points in courses], style))
        finals = [_at(points, common_end).score.mean for _, points in courses]
        mean = sum(finals) / len(finals)
        ends = [len(run.records) for run, _ in courses]
        length = f"{min(ends):,} to {max(ends):,}" if min(ends) != max(ends) else f"{ends[0]:,}"
        shown = [style.mean(one) for one in (mean, min(finals), max(finals))]
        table.append([group.label, len(courses), length, *shown])
        told.append((mean, f"{style.mean(mean)} ({group.label})"))
    if not rows:
        return None
    best = ", ".join(text for _, text in sorted(told, key=lambda one: -one[0]))
    seeds = any(len(group.runs) > 1 for group in groups)
    spread = " Lines are means over seeds, bands go from the lowest to the highest of them." if seeds else ""
    chart = band_chart(KEY, rows, [group.label for group in groups], _y_title(style), style)
    note = f"Groups end where their first run ends.{spread}"
    means = " (mean over seeds)" if seeds else ""
    lead = f"The best on the search items after {common_end:,} candidates, which each run has{means}: {best}."
    after = f"after {common_end:,}"
    columns = [
        "runs",
        "number",
        "candidates",
        *(f"{what}, {after}" for what in ("mean of the best", "lowest", "highest")),
    ]
    return Figure(KEY, "Progress", lead, chart=chart, table=Table(columns, table), note=note)


def _at(points: Sequence[SearchPoint], candidates: int) -> SearchPoint:
    """Return where a search stood after so many candidates; at its first score, if that came later."""
    return next((point for point in reversed(points) if point.spent[CANDIDATES] <= candidates), points[0])


def _reached(run: RunData, points: Sequence[SearchPoint]) -> Iterator[tuple[Mapping[str, float], float]]:
    """Yield what was spent and the best score by then, to the end of the search."""
    for point in points:
        yield point.spent, point.score.mean
    if run.records[-1] is not points[-1].record:
        yield spent_by(run, run.records[-1]), points[-1].score.mean
