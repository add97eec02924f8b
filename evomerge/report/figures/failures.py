"""What did not work: candidates that failed or could not be built, and why; repeated recipes; models without scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from evomerge.analysis.failures import FAILED, INVALID, REPEATED, SCORED, outcome, reasons
from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Figure, Table
from evomerge.report.groups import labels_of
from evomerge.report.numbers import span
from evomerge.system.text import cut, visible

BARS = 40
"""At most so many bars."""

FEW = 4
"""Fewer candidates without a score of their own are told in a sentence: a chart would show nothing more."""

REASONS, LONGEST = 30, 600
"""At most so many reasons, and characters of one."""

_ORDER = (SCORED, REPEATED, INVALID, FAILED)


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw what became of candidates in the course of one search; of several, a table."""
    counts = {run: Counter(map(outcome, run.records)) for run in runs}
    unscored = {run: list(run.status["unscored"]) for run in runs}
    if not any(counts[run].total() > counts[run][SCORED] or unscored[run] for run in runs):
        return None
    if len(runs) > 1:
        failed, every = _sum(counts, FAILED, INVALID), _sum(counts, *_ORDER)
        lead = f"{failed:,} of {every:,} candidates of {len(runs)} runs have no result."
        return Figure("failures", "What did not work", lead, table=_overview(runs, counts, unscored))
    run = runs[0]
    return Figure(
        "failures",
        "What did not work",
        _lead(run, counts[run], len(unscored[run])),
        chart=_chart(run) if counts[run].total() - counts[run][SCORED] >= FEW else None,
        table=_table(run, unscored[run]),
        note="A candidate without a result gets the worst rank, and the search goes on. A repeated recipe is not "
        "scored again: it takes over the earlier result.",
    )


def _chart(run: RunData) -> dict[str, Any]:
    kinds = [outcome(record) for record in run.records]
    step = -(-len(kinds) // BARS)
    rows = [row for begin in range(0, len(kinds), step) for row in _bar(run, kinds[begin : begin + step], begin)]
    present = [kind for kind in _ORDER if kind in kinds]
    ticks = list(range(0, step + 1, -(-step // 4)))
    chart = (
        alt.Chart(alt.NamedData("rows"), width="container", height=160)
        .mark_rect()
        .encode(
            x=alt.X("x:Q", title="candidates", scale=alt.Scale(nice=False), axis=alt.Axis(tickMinStep=1, grid=False)),
            x2="x2:Q",
            y=alt.Y("y:Q", title="how many", axis=alt.Axis(values=ticks, format="d")),
            y2="y2:Q",
            color=alt.Color(
                "what:N", scale=alt.Scale(domain=list(_ORDER)), title=None, legend=alt.Legend(values=present)
            ),
            tooltip=[
                alt.Tooltip("candidates:N"),
                alt.Tooltip("what:N", title="became"),
                alt.Tooltip("n:Q", title="how many"),
            ],
        )
    )
    return specification(chart, rows=rows)


def _bar(run: RunData, kinds: Sequence[str], begin: int) -> Iterator[dict[str, Any]]:
    """Yield the parts of a bar, those that were scored at the bottom."""
    end, counts, below = begin + len(kinds), Counter(kinds), 0
    named = span([run.records[begin].number, run.records[end - 1].number])
    for kind in _ORDER:
        if counts[kind]:
            above = below + counts[kind]
            yield {
                **{"x": begin, "x2": end, "y": below, "y2": above},
                **{"candidates": named, "what": kind, "n": counts[kind]},
            }
            below = above


def _lead(run: RunData, counts: Counter[str], unscored: int) -> str:
    n = counts.total()
    parts = []
    if counts[FAILED]:
        parts.append(f"{counts[FAILED]:,} of {n:,} candidates failed")
    if counts[INVALID]:
        parts.append(f"{counts[INVALID]:,} of {n:,} could not be built")
    if counts[REPEATED]:
        parts.append(f"{counts[REPEATED]:,} of {n:,} repeated an earlier recipe")
    if unscored:
        parts.append(f"{unscored} times a model could not be scored on further items")
    text = f"{', '.join(parts)}."
    found = reasons(run.records)
    if found:
        often = "" if len(found) == 1 else f", {len(found[0].numbers):,} times,"
        text += f" The reason{often} was: {cut(visible(found[0].text), 200).rstrip('.')}."
    return text


def _table(run: RunData, unscored: Sequence[Mapping[str, Any]]) -> Table | None:
    found = reasons(run.records)
    rows: list[list[Any]] = [
        [one.outcome, len(one.numbers), one.numbers[0], one.numbers[-1], cut(one.text, LONGEST)]
        for one in found[:REASONS]
    ]
    if len(found) > REASONS:
        rest = [number for one in found[REASONS:] for number in one.numbers]
        rows.append(["other reasons", len(rest), min(rest), max(rest), "`evomerge records RUN` tells them"])
    rows += [
        [f"{one['name']}: no {one['split']} score", 1, None, None, cut(str(one["error"]), LONGEST)]
        for one in unscored[:REASONS]
    ]
    return Table(["what", "times", "first candidate", "last", "reason"], rows) if rows else None


def _overview(
    runs: Sequence[RunData], counts: Mapping[RunData, Counter[str]], unscored: Mapping[RunData, Sequence[Any]]
) -> Table:
    return Table(
        ["run", "candidates", *_ORDER, "models without a score"],
        [
            [label, counts[run].total(), *(counts[run][kind] for kind in _ORDER), len(unscored[run])]
            for run, label in zip(runs, labels_of(runs), strict=True)
        ],
    )


def _sum(counts: Mapping[RunData, Counter[str]], *kinds: str) -> int:
    return sum(own[kind] for own in counts.values() for kind in kinds)
