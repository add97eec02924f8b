"""Maps of what was found: the best candidate in each cell of two measures, which the reader chooses."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from evomerge.analysis.cells import best_by_cell, edges_of
from evomerge.record import Record, Split
from evomerge.report.chart import specification
from evomerge.report.data import RunData, score
from evomerge.report.figure import Cell, Figure, Table
from evomerge.report.numbers import ScoreStyle, score_style, seen
from evomerge.report.searched import named

KEY = "archive"
_BINS, _MEASURES, _HEIGHT = 12, 6, 320
"""Cells in each direction, measures and pixels at most."""
_PAIR = "archive_measures"
_SHOWN = 20


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the maps of one run whose results have two or more measures that differ between candidates."""
    if len(runs) != 1:
        return None
    run = runs[0]
    measures = _measures(run.records)
    if len(measures) < 2:
        return None
    edges = {name: edges_of(values, _BINS) for name, values in measures.items()}
    pairs = list(itertools.combinations(edges, 2))
    style = score_style(run)
    rows = [row for x, y in pairs for row in _rows(run, x, y, edges, style)]
    note = f"Up to {_BINS} cells of equal width in each direction, between the least and the largest value seen."
    title = "Archive" if (run.status["choice"] or {}).get("kind") == KEY else "Map of the candidates"
    return Figure(
        KEY,
        title,
        _lead(rows, pairs[0], style),
        chart=_chart(rows, pairs, style),
        table=_table(run, measures, style),
        note=note,
    )


def _measures(records: Sequence[Record]) -> dict[str, list[float]]:
    """Return the values of each measure that has more than one."""
    found: dict[str, list[float]] = {}
    for record in records:
        for name, value in (record.result.measures if record.result and record.fitness is not None else {}).items():
            if math.isfinite(value):
                found.setdefault(name, []).append(float(value))
    varied = {name: values for name, values in found.items() if len(set(values)) > 1}
    return dict(list(varied.items())[:_MEASURES])


def _rows(
    run: RunData, x: str, y: str, edges: Mapping[str, Sequence[float]], style: ScoreStyle
) -> Iterator[dict[str, Any]]:
    for cell in best_by_cell(run.records, x, y, edges[x], edges[y]):
        own = score(cell.best, Split.SEARCH)
        if own is None or (mean := seen(own.mean)) is None or cell.best.result is None:
            continue
        yield {
            "pair": _pair(x, y),
            "x": seen(edges[x][cell.x]),
            "x2": seen(edges[x][cell.x + 1]),
            "y": seen(edges[y][cell.y]),
            "y2": seen(edges[y][cell.y + 1]),
            "score": mean,
            "text": style.score(own),
            "name": cell.best.name,
            "n": cell.n,
            "at": f"{cell.best.result.measures[x]:.4g} × {cell.best.result.measures[y]:.4g}",
        }


def _pair(x: str, y: str) -> str:
    return f"{x} × {y}"


def _chart(rows: Sequence[dict[str, Any]], pairs: Sequence[tuple[str, str]], style: ScoreStyle) -> dict[str, Any]:
    words = [_pair(*pair) for pair in pairs]
    base = alt.Chart(alt.NamedData("cells"), width="container", height=_HEIGHT)
    if len(pairs) > 1:
        base = base.transform_filter(f"datum.pair == {_PAIR}")
    x, y = pairs[0]
    scores = [row["score"] for row in rows]
    low, high = min(scores), max(scores)
    # The ramp begins at the ground of the page, where nothing could be seen.
    scale = alt.Scale(domain=[low - 0.4 * (high - low or 1.0), high])
    legend = alt.Legend(title="best score", format=style.tooltip, values=sorted({low, (low + high) / 2, high}))
    made = base.mark_rect(stroke=None).encode(
        x=alt.X("x:Q", title=x, scale=alt.Scale(zero=False, nice=False)),
        x2="x2:Q",
        y=alt.Y("y:Q", title=y, scale=alt.Scale(zero=False, nice=False)),
        y2="y2:Q",
        color=alt.Color("score:Q", scale=scale, legend=legend),
        tooltip=[
            alt.Tooltip("name:N", title="best candidate"),
            alt.Tooltip("text:N", title="score on the search items"),
            alt.Tooltip("at:N", title="its measures"),
            alt.Tooltip("n:Q", title="candidates in the cell"),
        ],
    )
    if len(pairs) > 1:
        select = alt.binding_select(options=words, name="measures: ")
        made = made.add_params(alt.param(name=_PAIR, value=words[0], bind=select))
    found = specification(made, cells=rows)
    if len(pairs) > 1:
        for channel, place in (("x", 0), ("y", 1)):  # a title that follows a choice: Vega-Lite's schema knows it not
            names = {word: pair[place] for word, pair in zip(words, pairs, strict=True)}
            found["encoding"][channel]["title"] = {"signal": f"({json.dumps(names)})[{_PAIR}]"}
    return found


def _lead(rows: Sequence[dict[str, Any]], pair: tuple[str, str], style: ScoreStyle) -> str:
    own = [row for row in rows if row["pair"] == _pair(*pair)]
    best = max(own, key=lambda row: row["score"])
    worst = min(own, key=lambda row: row["score"])
    names = " and ".join(named([name]) for name in pair)
    return (
        f"The candidates fill {len(own)} cells of {names}; the best of a cell goes from {style.mean(worst['score'])} "
        f"to {style.mean(best['score'])} ({best['name']}, at {best['at']}) on the search items."
    )


def _table(run: RunData, measures: Mapping[str, Sequence[float]], style: ScoreStyle) -> Table:
    """Return the chosen ones with their measures; before the end of the search the best ones."""
    scored = sorted((one for one in run.records if one.fitness is not None), key=lambda one: -(one.fitness or 0.0))
    rows: list[list[Cell]] = []
    for record in list(run.chosen or scored)[:_SHOWN]:
        own = score(record, Split.SEARCH)
        values = [None if record.result is None else seen(record.result.measures.get(name)) for name in measures]
        rows.append([record.name, None if own is None else style.score(own), *values])
    return Table(["candidate", "score on the search items", *measures], rows)
