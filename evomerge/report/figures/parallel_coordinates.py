"""Candidates as lines across the genes that explain most, and their fitness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Figure
from evomerge.report.genes import GeneTable, even_sample, shown_fitness, without_prefix
from evomerge.report.numbers import seen

MOST_GENES = 12
MOST_LINES = 150
N_BEST = 10
AGREE = 0.5
"""The best agree on a gene where they spread over less than this part of what all candidates tried."""

_SLANTED = 36
"""Pixels of an axis from which on names stand slanted; upright ones need less."""


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw each candidate as a line through the values of its genes; of one run alone."""
    if len(runs) != 1:
        return None
    table = runs[0].best_genes
    if table is None:
        return None
    fitness = shown_fitness(table.records)
    scored = [i for i in even_sample(table, MOST_LINES) if math.isfinite(fitness[i])]
    if len(scored) < 2:
        return None
    tried = np.isfinite(table.values[scored]).sum(axis=0)
    chosen = [i for i in table.by_importance if tried[i] > 1][:MOST_GENES]
    best = sorted(scored, key=lambda i: (-fitness[i], i))[: min(N_BEST, max(1, len(scored) // 3))]
    note = [f"Genes of the stage {table.name}." if table.name else ""]
    if len(chosen) < len(table.genes):
        known = any(not math.isnan(one.share) for one in table.importance)
        which = "those that explain most" if known else "the first ones, since too few candidates tell which matter"
        note.append(f"Axes are {len(chosen)} of {len(table.genes)} genes: {which}.")
    n_scored = int(np.isfinite(fitness).sum())
    if len(scored) < n_scored:
        note.append(f"Lines are {len(scored)} of {n_scored:,} scored candidates: the best, and an even sample.")
    if any(table.genes[i].when for i in chosen):
        note.append("A line is broken where a gene does not count (it belongs to a method that was not chosen).")
    return Figure(
        "parallel-coordinates",
        "Genes of the candidates",
        _lead(table, chosen, best, scored),
        chart=_chart(table, chosen, scored, best, fitness),
        note=" ".join(filter(None, note)),
    )


def _lead(table: GeneTable, chosen: Sequence[int], best: Sequence[int], scored: Sequence[int]) -> str:
    """Say which genes the best agree on: where they spread over the least part of what all candidates tried."""
    units = table.units
    agreed: list[tuple[float, str]] = []
    for i in chosen:
        of_best = [units[at, i] for at in best if math.isfinite(units[at, i])]
        of_all = [units[at, i] for at in scored if math.isfinite(units[at, i])]
        if len(of_best) < 3 or np.std(of_all) == 0.0:
            continue
        gene = table.genes[i]
        values = [table.values[at, i] for at in best if math.isfinite(units[at, i])]
        if gene.kind == "choice":
            common = max(dict.fromkeys(values), key=values.count)
            words = f"{gene.name} is {gene.word(common)} in {values.count(common)} of {len(values)}"
        else:
            words = f"{gene.name} from {gene.word(min(values))} to {gene.word(max(values))}"
        agreed.append((float(np.std(of_best) / np.std(of_all)), words))
    if not agreed:
        return f"{len(scored)} candidates; with so few the best cannot be told from the rest by their genes."
    agreed.sort(key=lambda pair: pair[0])
    if agreed[0][0] > AGREE:
        return (
            f"The {len(best)} best of {len(scored)} candidates agree on no gene: they spread over half as far as all "
            f"do, or further. The nearest to it: {agreed[0][1]}."
        )
    agreed = [pair for pair in agreed if pair[0] <= AGREE]
    return f"The {len(best)} best of {len(scored)} candidates agree most on: {'; '.join(w for _, w in agreed[:3])}."


def _chart(
    table: GeneTable, chosen: Sequence[int], scored: Sequence[int], best: Sequence[int], fitness: np.ndarray[Any, Any]
) -> dict[str, Any]:
    genes = [table.genes[i] for i in chosen]
    low, high = float(np.min(fitness[list(scored)])), float(np.max(fitness[list(scored)]))
    last = len(genes)
    rows = []
    for at in scored:
        record = table.records[at]
        row: dict[str, Any] = {"n": record.number, "name": record.name, "f": seen(fitness[at]), "best": at in best}
        for k, i in enumerate(chosen):
            row[f"u{k}"] = seen(table.units[at, i], 3)
            row[f"v{k}"] = genes[k].word(table.values[at, i])
        row[f"u{last}"] = seen((fitness[at] - low) / (high - low) if high > low else 0.5, 3)
        rows.append(row)
    marks = [mark for k, gene in enumerate(genes) for mark in _marks(k, gene)]
    marks += [{"k": last, "u": u, "word": f"{value:.4g}", "end": u} for u, value in ((0.0, low), (1.0, high))]
    # Names are values of a parameter, so that no expression is made of them.
    names = alt.param("names", value=[*without_prefix([gene.name for gene in genes]), "fitness"])
    hover = alt.selection_point(name="hover", fields=["n"], on="pointerover", clear="pointerout", empty=False)
    x = alt.X(
        "k:O",
        title=None,
        axis=alt.Axis(
            labelExpr="names[datum.value]",
            labelAngle=alt.expr(f"width > {_SLANTED * (last + 1)} ? -35 : -90"),
            labelAlign="right",
            labelBaseline=alt.expr(f"width > {_SLANTED * (last + 1)} ? 'top' : 'middle'"),
            labelLimit=150,
            grid=True,
            domain=False,
        ),
    )
    y = alt.Y("u:Q", axis=None, scale=alt.Scale(domain=[-0.06, 1.06], nice=False))
    base = (
        alt.Chart()
        .transform_fold([f"u{k}" for k in range(last + 1)], as_=["key", "u"])
        .transform_calculate(k="toNumber(slice(datum.key, 1))")
        .encode(
            x=x,
            y=y,
            detail="n:Q",
            order="k:Q",
            color=alt.Color("f:Q", title="fitness", scale=alt.Scale(domain=[low - 0.3 * (high - low), high])),
            tooltip=[
                alt.Tooltip("name:N", title="candidate"),
                alt.Tooltip("f:Q", title="fitness", format=".4~g"),
                *(alt.Tooltip(f"v{k}:N", title=gene.name) for k, gene in enumerate(genes)),
            ],
        )
    )
    rest = base.transform_filter("!datum.best").mark_line(strokeWidth=1, opacity=0.45)
    front = (
        base.transform_filter("datum.best")
        .mark_line()
        .encode(strokeWidth=alt.condition(hover, alt.value(5.0), alt.value(2.2)))
        .add_params(hover)
    )
    labels = (
        alt.Chart(alt.NamedData("marks"))
        .mark_text(fontSize=11, align="left", dx=3)
        .encode(
            x=x,
            y=y,
            text="word:N",
            # Where the page is too narrow, words would lie upon each other.
            opacity=alt.condition(f"width > {52 * (last + 1)}", alt.value(0.9), alt.value(0.0)),
        )
    )
    chart = alt.layer(rest, front, labels, data=alt.NamedData("rows")).add_params(names)
    return specification(chart.properties(width="container", height=300), rows=rows, marks=marks)


def _marks(k: int, gene: Any) -> list[dict[str, Any]]:
    """Return what stands along an axis: the ends of a range, or the words of a choice."""
    values = range(len(gene.choices)) if gene.choices else (gene.low, gene.high)
    return [
        {"k": k, "u": seen(float(gene.unit(np.array([float(value)]))[0]), 3), "word": gene.word(float(value))[:12]}
        for value in values
    ]
