"""Where a gene went in the course of the search, and which genes of the best merge lie at the edge of their range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Figure, Table
from evomerge.report.genes import GeneTable, even_sample, shown_fitness
from evomerge.report.numbers import seen

MOST_GENES = 40
"""Genes that can be chosen; the table has all."""

MOST_POINTS = 400


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the values of a gene that is chosen, candidate by candidate; of one run alone."""
    if len(runs) != 1:
        return None
    table = runs[0].best_genes
    if table is None or not table.records:
        return None
    row = table.row(runs[0].best)
    best = [math.nan] * len(table.genes) if row is None else table.values[row].tolist()
    edges = [gene.edge(value) for gene, value in zip(table.genes, best, strict=True)]
    # What is worth a look comes first: genes at an edge, then those that explain most.
    order = sorted(table.by_importance, key=lambda i: not edges[i])
    chosen = order[:MOST_GENES]
    rows = [
        [
            gene.name,
            gene.word(value) if row is not None else None,
            ", ".join(gene.choices) if gene.choices else f"{gene.word(gene.low)} … {gene.word(gene.high)}",
            gene.word(gene.start),
            {"low": "at the lower end", "high": "at the upper end"}.get(edge, ""),
        ]
        for gene, value, edge in ((table.genes[i], best[i], edges[i]) for i in order)
    ]
    shown = even_sample(table, MOST_POINTS)
    note = [f"Genes of the stage {table.name}." if table.name else ""]
    if len(chosen) < len(table.genes):
        note.append(f"{MOST_GENES} of {len(table.genes)} genes can be chosen; the table has all.")
    if len(shown) < len(table.records):
        note.append(f"Drawn are {len(shown)} of {len(table.records):,} candidates: the best, and an even sample.")
    note.append("Dashed lines: the ends of the range and, fainter, where the search began; the ring: the best merge.")
    if any(table.genes[i].when for i in chosen):
        note.append("No point: the gene does not count there (it belongs to a method that was not chosen).")
    return Figure(
        "gene-course",
        "Where the genes went",
        _lead(table, edges, best, row is not None),
        chart=_chart(table, chosen, shown, row),
        table=Table(
            ("gene", "the best merge has", "range", "start", "edge"),
            rows,
            frozenset(place for place, i in enumerate(order) if edges[i]),
        ),
        note=" ".join(filter(None, note)),
    )


def _lead(table: GeneTable, edges: Sequence[str], best: Sequence[float], known: bool) -> str:
    n = len(table.genes)
    if not known:
        return f"No candidate of these {n} genes has a score yet; the values that were tried are shown."
    at = [i for i, edge in enumerate(edges) if edge]
    if not at:
        one = "The gene of the best merge does not lie" if n == 1 else f"None of the {n} genes of the best merge lies"
        return f"{one} at the edge of its range, so the ranges were wide enough."
    ends = {"low": "lower", "high": "upper"}
    words = [f"{table.genes[i].name} at its {ends[edges[i]]} end ({table.genes[i].word(best[i])})" for i in at[:3]]
    more = f" and {len(at) - 3} more" if len(at) > 3 else ""
    verb = "lies" if len(at) == 1 else "lie"
    it, their = ("it", "its") if len(at) == 1 else ("them", "their")
    return (
        f"{len(at)} of {n} genes of the best merge {verb} at the edge of {their} range: {', '.join(words)}{more}. "
        f"Where the method allows more, widen {it} (space.genes) and search again."
    )


def _chart(table: GeneTable, chosen: Sequence[int], shown: Sequence[int], best: int | None) -> dict[str, Any]:
    fitness = shown_fitness(table.records)
    rows = []
    for at in shown:
        record = table.records[at]
        values = {f"g{k}": seen(table.values[at, i]) for k, i in enumerate(chosen)}
        rows.append({"n": record.number, "name": record.name, "f": seen(fitness[at]), "best": at == best, **values})
    genes = [
        {"i": k, "low": seen(gene.low), "high": seen(gene.high), "start": seen(gene.start)}
        for k, gene in enumerate(table.genes[i] for i in chosen)
    ]
    names = [table.genes[i].name for i in chosen]
    # Names and words are values of parameters, so that no expression is made of them.
    gene = alt.param(
        "gene", value=0, bind=alt.binding_select(options=list(range(len(names))), labels=names, name="gene ")
    )
    words = alt.param("words", value=[list(table.genes[i].choices) for i in chosen])
    label = "length(words[gene]) ? (words[gene][datum.value] || '') : format(datum.value, '.4~g')"
    # A word stands for the value of a choice in tooltips, too.
    points = (
        alt.Chart()
        .transform_calculate(
            v="datum['g' + gene]",
            word="length(words[gene]) ? words[gene][datum['g' + gene]] : format(datum['g' + gene], '.4~g')",
        )
        .transform_filter("isValid(datum.v)")
    )
    y = alt.Y("v:Q", title="value of the gene", scale=alt.Scale(zero=False, nice=False, padding=8))
    y.axis = alt.Axis(labelExpr=label, tickCount=5)
    scored = fitness[np.isfinite(fitness)]
    low, high = (float(scored.min()), float(scored.max())) if len(scored) else (0.0, 1.0)
    tooltip = [
        alt.Tooltip("name:N", title="candidate"),
        alt.Tooltip("word:N", title="value"),
        alt.Tooltip("f:Q", title="fitness", format=".4~g"),
    ]
    x = alt.X("n:Q", title="candidate", axis=alt.Axis(format="d", tickMinStep=1))
    dots = points.mark_circle(size=46, opacity=0.9).encode(
        x=x,
        y=y,
        color=alt.condition(
            "isValid(datum.f)",
            # The lowest are still seen on the page's ground.
            alt.Color("f:Q", title="fitness", scale=alt.Scale(domain=[low - 0.3 * (high - low), high])),
            alt.value("transparent"),
        ),
        tooltip=tooltip,
    )
    failed = (
        points.transform_filter("!isValid(datum.f)")
        .mark_point(shape="cross", size=36, opacity=0.5)
        .encode(x=x, y=y, tooltip=tooltip)
    )
    star = points.transform_filter("datum.best").mark_point(size=170, strokeWidth=2.5).encode(x=x, y=y, tooltip=tooltip)
    limits = (
        alt.Chart(alt.NamedData("genes"))
        .transform_filter("datum.i == gene")
        .transform_fold(["low", "high", "start"], as_=["what", "v"])
        .transform_calculate(
            word="length(words[gene]) ? words[gene][datum.v] : format(datum.v, '.4~g')",
            said="{low: 'lower end', high: 'upper end', start: 'start of the search'}[datum.what]",
        )
        .mark_rule(strokeDash=[4, 3])
        .encode(
            y=y,
            strokeWidth=alt.condition("datum.what == 'start'", alt.value(1.0), alt.value(2.0)),
            opacity=alt.condition("datum.what == 'start'", alt.value(0.5), alt.value(0.9)),
            tooltip=[alt.Tooltip("said:N", title="line"), alt.Tooltip("word:N", title="value")],
        )
    )
    charts = [limits, dots]
    if any(row["f"] is None for row in rows):
        charts.append(failed)
    if any(row["best"] for row in rows):
        charts.append(star)
    layers = alt.layer(*charts, data=alt.NamedData("rows")).add_params(gene, words)
    return specification(layers.properties(width="container", height=280), rows=rows, genes=genes)
