"""How answers changed in the course of the search: how often they are bad, and how long they are, by candidate."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
from numpy.typing import NDArray

from evomerge.analysis.degeneration import Degeneration
from evomerge.analysis.difficulty import block_means, blocks
from evomerge.evaluation.measures.registry import ALWAYS
from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Figure
from evomerge.report.figures.degeneration import TOKENS, words
from evomerge.report.numbers import seen, span
from evomerge.system.text import visible

POINTS = 1200
"""At most so many points; of more candidates, blocks are put together."""


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the measures of one run's candidates on the search items."""
    if len(runs) != 1 or runs[0].skills is None:
        return None
    run = runs[0]
    measured = Degeneration(runs[0].skills)
    found = {
        (task, measure): over
        for task in run.entries
        for measure in ALWAYS
        if len((over := measured.over_candidates(task, measure))[0]) > 1 and np.nansum(over[1]) > 0.0
    }
    if not found:
        return None
    rows = []
    for (task, measure), (numbers, means) in found.items():
        ends = blocks(len(numbers), POINTS // len(found))
        joined = block_means(means[:, None], ends, np.array([0, 1]))[:, 0]
        for begin, end, mean in zip(ends[:-1].tolist(), ends[1:].tolist(), joined.tolist(), strict=True):
            first, last = numbers[begin], numbers[end - 1]
            rows.append(
                {
                    "measure": _name(measure),
                    "task": task,
                    "n": first,
                    "candidates": span([first, last]),
                    "mean": seen(mean if measure == TOKENS else 100 * mean),
                }
            )
    names = list(dict.fromkeys(_name(measure) for _, measure in sorted(found, key=lambda key: ALWAYS.index(key[1]))))
    tasks = list(dict.fromkeys(task for task, _ in found))
    first_shown = next((name for name in names if name != _name(TOKENS)), names[0])
    bind = alt.binding_select(options=names, name="answers ") if len(names) > 1 else alt.Undefined
    choice = alt.param(name="degeneration_measure", value=first_shown, bind=bind)
    chart = (
        alt.Chart(alt.NamedData("rows"), width="container", height=200)
        .transform_filter("datum.measure == degeneration_measure")
        .mark_point(filled=True, size=22, opacity=0.7)
        .encode(
            x=alt.X("n:Q", title="candidate"),
            y=alt.Y("mean:Q", title="mean over the search items", scale=alt.Scale(domainMin=0)),
            color=alt.Color("task:N", sort=tasks, title=None, legend=alt.Legend() if len(tasks) > 1 else None),
            tooltip=[
                alt.Tooltip("candidates:N"),
                alt.Tooltip("task:N"),
                alt.Tooltip("measure:N", title="answers"),
                alt.Tooltip("mean:Q", title="mean", format=".4~g"),
            ],
        )
        .add_params(choice)
    )
    return Figure(
        "degeneration-course",
        "Answers in the course of the search",
        _lead(found),
        chart=specification(chart, rows=rows),
    )


def _name(measure: str) -> str:
    return f"{words(measure)} ({'number' if measure == TOKENS else '%'})"


def _lead(found: dict[tuple[str, str], tuple[list[int], NDArray[np.float64]]]) -> str:
    texts = []
    for (task, measure), (_, means) in found.items():
        quarter = max(1, len(means) // 4)
        parts = [part for part in (means[:quarter], means[-quarter:]) if not np.isnan(part).all()]
        if len(parts) < 2:
            continue
        first, last = (float(np.nanmean(part)) * (1 if measure == TOKENS else 100) for part in parts)
        unit = "" if measure == TOKENS else " %"
        of = f" of {visible(task, most=60)}" if len({key[0] for key in found}) > 1 else ""
        texts.append(
            (abs(last - first) / max(first, last, 1e-9), f"{words(measure)}{of} {first:.1f} and {last:.1f}{unit}")
        )
    if not texts:
        return "How often answers are bad, and how long they are."
    shown = ", ".join(text for _, text in sorted(texts, key=lambda one: -one[0])[:4])
    return f"Of the first and of the last quarter of the candidates: {shown}."
