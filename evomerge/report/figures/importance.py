"""How much each gene explains of whether a candidate is among the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from evomerge.analysis.gene_importance import BEST_SHARE, FEWEST, GeneShare, gene_importance
from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Figure, Table
from evomerge.report.genes import GeneTable, without_prefix
from evomerge.report.groups import groups_of
from evomerge.report.numbers import seen

MOST = 12
"""Genes that are drawn; the table has all."""

_NOTE = (
    "PED-ANOVA (Watanabe et al. 2023) with what chance alone makes of so few candidates taken off; intervals of 95 % "
    "by bootstrap over candidates. Shares are of what all genes of a stage explain one by one. Genes that the search "
    "moved together cannot be told apart. Repeated recipes are left out, failed candidates count as the worst."
)


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the share of each gene, with its interval; of several runs for each configuration."""
    groups = groups_of(runs)
    rows: list[dict[str, Any]] = []
    counted: list[tuple[str, int, int]] = []
    for group in groups:
        for tables in _stages([run.gene_tables for run in group.runs]):
            found = tables[0].importance if len(tables) == 1 else _pooled(tables)
            n = sum(int(table.told.sum()) for table in tables)
            if n:
                counted.append((tables[0].name, n, len(tables[0].genes)))
                rows += _rows(group.label, tables, found)
    if not counted:
        return None
    known = [row for row in rows if row["share"] is not None]
    if not known:
        return Figure("importance", "Which genes matter", _too_few(counted))
    strongest = sorted(known, key=lambda row: -row["share"])
    names = list(dict.fromkeys(row["gene"] for row in strongest))[:MOST]
    drawn = [row for row in known if row["gene"] in names]
    columns = ["gene", "share", "interval", "beyond chance", "the best have", "all have", "candidates"]
    cells = [
        [row["gene"], row["text"], row["interval"], row["certain"], row["best"], row["all"], row["n"]]
        for row in strongest
    ]
    if len(groups) > 1:
        columns = ["runs", *columns]
        cells = [[row["group"], *cell] for row, cell in zip(strongest, cells, strict=True)]
    return Figure(
        "importance",
        "Which genes matter",
        _lead(strongest, counted, len(groups)),
        chart=_chart(drawn, names, len(groups)),
        table=Table(columns, cells),
        note=_NOTE,
    )


def _stages(tables: Sequence[Sequence[GeneTable]]) -> list[list[GeneTable]]:
    """Return the tables of each stage over all runs of one configuration, as far as their genes are the same."""
    found: dict[tuple[object, ...], list[GeneTable]] = {}
    for run in tables:
        for table in run:
            found.setdefault((table.stage, table.genes), []).append(table)
    return list(found.values())


def _pooled(tables: Sequence[GeneTable]) -> list[GeneShare]:
    """Return what the genes explain in several searches together: the best are those of each search."""
    points, ranks = [], []
    for table in tables:
        told = table.told
        fitness = np.where(np.isfinite(table.fitness[told]), table.fitness[told], -np.inf)
        below = (fitness[:, None] > fitness[None, :]).mean(axis=1) + (fitness[:, None] >= fitness[None, :]).mean(axis=1)
        ranks.append(np.where(np.isfinite(fitness), below, np.nan))  # other seeds have other items, so levels differ
        points.append(table.units[told])
    return gene_importance(np.concatenate(points), np.concatenate(ranks), tables[0].kinds)


def _rows(label: str, tables: Sequence[GeneTable], found: Sequence[GeneShare]) -> list[dict[str, Any]]:
    first = tables[0]
    rows = []
    for i, (gene, one) in enumerate(zip(first.genes, found, strict=True)):
        best, everyone = _typical(tables, i, True), _typical(tables, i, False)
        rows.append(
            {
                "group": label,
                "gene": f"{first.name}: {gene.name}" if first.name else gene.name,
                "share": seen(one.share),
                "low": seen(one.low),
                "high": seen(one.high),
                "text": _percent(one.share),
                "interval": f"[{100 * one.low:.1f}, {100 * one.high:.1f}]",
                "certain": "yes" if one.stands_out else "no",
                "best": best,
                "all": everyone,
                "n": one.n,
                "doc": gene.doc or gene.name,
            }
        )
    return rows


def _typical(tables: Sequence[GeneTable], i: int, of_best: bool) -> str:
    """Return the median of a gene, or its most common word, over the best candidates or over all, in words."""
    values: list[float] = []
    for table in tables:
        told = np.flatnonzero(table.told & np.isfinite(table.values[:, i]))
        if of_best:
            fitness = np.where(np.isfinite(table.fitness[told]), table.fitness[told], -np.inf)
            order = np.argsort(-fitness, kind="stable")
            told = told[order[: math.ceil(BEST_SHARE * len(told))]]
        values += table.values[told, i].tolist()
    gene = tables[0].genes[i]
    if not values:
        return "no value (it did not count)"
    if gene.kind == "choice":
        common = max(dict.fromkeys(values), key=values.count)
        return f"{gene.word(common)} ({100 * values.count(common) / len(values):.0f} %)"
    return gene.word(float(np.median(values)))


def _chart(rows: Sequence[dict[str, Any]], names: Sequence[str], n_groups: int) -> dict[str, Any]:
    title = "share explained"
    short = dict(zip(names, without_prefix(names), strict=True))  # what all begin with says nothing
    rows = [{**row, "short": short[row["gene"]]} for row in rows]
    base = alt.Chart().encode(
        y=alt.Y("short:N", sort=list(short.values()), title=None),
        tooltip=[
            *([alt.Tooltip("group:N", title="runs")] if n_groups > 1 else []),
            alt.Tooltip("gene:N"),
            alt.Tooltip("doc:N", title="what it does"),
            alt.Tooltip("share:Q", format=".1%", title="explains"),
            alt.Tooltip("interval:N", title="95 % interval, in %"),
            alt.Tooltip("certain:N", title="beyond chance"),
            alt.Tooltip("best:N", title="the best fifth has"),
            alt.Tooltip("all:N", title="all have"),
            alt.Tooltip("n:Q", title="candidates"),
        ],
    )
    share = alt.X("share:Q", axis=alt.Axis(format=".0%"), title=title)
    bars = base.mark_bar().encode(
        x=share, opacity=alt.condition("datum.certain == 'yes'", alt.value(1.0), alt.value(0.4))
    )
    lines = base.mark_rule().encode(x=alt.X("low:Q", title=title), x2="high:Q")
    if n_groups > 1:
        bars = bars.encode(color=alt.Color("group:N", title=None), yOffset="group:N")
        lines = lines.encode(yOffset="group:N")
    height = 60 + len(names) * (22 if n_groups == 1 else 12 * (n_groups + 1))
    chart = alt.layer(bars, lines, data=alt.NamedData("rows")).properties(
        width="container", height=min(max(height, 100), 360)
    )
    return specification(chart, rows=rows)


def _lead(strongest: Sequence[dict[str, Any]], counted: Sequence[tuple[str, int, int]], n_groups: int) -> str:
    certain = [row for row in strongest if row["certain"] == "yes"]
    first = (certain or strongest)[0]
    n_genes, n = len({row["gene"] for row in strongest}), sum(n for _, n, _ in counted)
    among = f"{n:,} candidates" + (f" of {n_groups} configurations" if n_groups > 1 else "")
    group = f" ({first['group']})" if n_groups > 1 else ""
    about = (
        f"{first['gene']}{group}. It explains {first['text']} "
        f"{first['interval']} of what the genes explain of being among the best fifth: there it is typically "
        f"{first['best']}, among all {first['all']}"
    )
    if not certain:
        return (
            f"None of {n_genes} genes stands out from chance among {among}, so which ones matter is not known yet. The "
            f"likeliest is {about}."
        )
    names = {row["gene"] for row in certain}
    return (
        f"{len(names)} of {n_genes} genes {'stands' if len(names) == 1 else 'stand'} out from chance among {among}, "
        f"first of all {about}."
    )


def _too_few(counted: Sequence[tuple[str, int, int]]) -> str:
    found = ", ".join(f"{n}{f' of the stage {name}' if name else ''}" for name, n, _ in counted)
    return (
        f"Which genes matter cannot be told from so few candidates ({found}): it takes {FEWEST} in which a gene "
        "counts, and values that differ."
    )


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"
