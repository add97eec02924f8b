"""The response matrix: which candidate has which search item right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from evomerge.analysis.difficulty import block_means, blocks, difficulty
from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Figure
from evomerge.system.figures import percentage
from evomerge.system.text import visible

CELLS = 2400
"""At most so many cells of all tasks together are drawn in each order; of more, cells are put together."""

NAMED = 8
"""So many items or candidates of a block are named."""

MOST = 5
"""So many tasks are spoken of."""

PROPOSAL, SCORE = "by proposal", "by score"

Floats = NDArray[np.float64]
Rows = list[dict[str, Any]]
Matrix = tuple[list[int], list[int], Floats]
"""Candidates, items, and the scores `(n_candidates, n_items)`."""


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the scores of one run's candidates on its search items."""
    if len(runs) != 1:
        return None
    run = runs[0]
    tasks = {task: found for task in run.entries if (found := _candidates(run, task)) is not None}
    if not tasks:
        return None
    cells, columns, lines = _laid_out(run, tasks)
    shares = all(((v >= 0) & (v <= 1) | np.isnan(v)).all() for _, _, v in tasks.values())
    chart = _chart(list(tasks), shares, min(340, max(160, 4 * max(len(numbers) for numbers, _, _ in tasks.values()))))
    joined = any(one["n"] > 1 for one in (*columns, *lines))
    return Figure(
        "responses",
        "Who has which item right",
        _lead(tasks, shares),
        chart=specification(chart, cells=cells, columns=columns, lines=lines),
        note="The easiest items stand to the left."
        + (" A cell is the mean of a block of candidates and items." if joined else "")
        + " Candidates that repeat an earlier recipe are left out; gaps were not asked.",
    )


def _candidates(run: RunData, task: str) -> Matrix | None:
    numbers, items, values = run.task_responses(task)
    rows = [place for place, number in enumerate(numbers) if number >= 0]
    if not rows or np.isnan(values[rows]).all():
        return None
    return [numbers[place] for place in rows], items, values[rows]


def _laid_out(run: RunData, tasks: Mapping[str, Matrix]) -> tuple[Rows, Rows, Rows]:
    """Return cells, and what their columns and lines stand for; a cell names both by their numbers."""
    cells: Rows = []
    columns: Rows = []
    lines: Rows = []
    for task, (numbers, items, values) in tasks.items():
        less = run.entries[task].direction == "minimize"
        hard = difficulty(values).mean * (1.0 if less else -1.0)
        easy = np.argsort(np.nan_to_num(hard, nan=np.inf), kind="stable")  # those nobody was asked last
        n_lines, n_columns = _sizes(len(numbers), len(items), CELLS // len(tasks))
        across, down = blocks(len(items), n_columns), blocks(len(numbers), n_lines)
        first = len(columns)
        for begin, end in zip(across[:-1].tolist(), across[1:].tolist(), strict=True):
            named = _listed([items[place] for place in easy[begin:end].tolist()])
            columns.append({"c": len(columns), "task": task, "x": begin, "x2": end, "items": named, "n": end - begin})
        worth = [
            one.fitness if (one := run.record(number)) and one.fitness is not None else -np.inf for number in numbers
        ]
        for order, places in (
            (PROPOSAL, np.arange(len(numbers))),
            (SCORE, np.array(sorted(range(len(numbers)), key=lambda at: (-worth[at], numbers[at])))),
        ):
            means = block_means(values[places][:, easy], down, across)
            for line, (begin, end) in enumerate(zip(down[:-1].tolist(), down[1:].tolist(), strict=True)):
                named = _listed([numbers[place] for place in places[begin:end].tolist()])
                row = {"l": len(lines), "order": order, "y": begin, "y2": end, "candidates": named, "n": end - begin}
                cells += [
                    {"c": first + column, "l": len(lines), "v": float(f"{mean:.3g}")}
                    for column, mean in enumerate(means[line].tolist())
                    if mean == mean
                ]
                lines.append(row)
    return cells, columns, lines


def _sizes(lines: int, columns: int, most: int) -> tuple[int, int]:
    """Return into how many lines and columns of blocks a matrix is put, about as it is shaped."""
    if lines * columns <= most:
        return lines, columns
    n_lines = min(lines, max(1, round((most * lines / columns) ** 0.5), most // columns))
    n_columns = min(columns, most // n_lines)
    return min(lines, most // n_columns), n_columns


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers)[:NAMED]))
    return shown if len(numbers) <= NAMED else f"{shown} and {len(numbers) - NAMED} more"


def _chart(tasks: Sequence[str], shares: bool, height: int) -> alt.Chart:
    named = [visible(task, most=60) for task in tasks]
    order = alt.param(
        name="order", value=PROPOSAL, bind=alt.binding_radio(options=[PROPOSAL, SCORE], name="candidates ")
    )
    task = alt.param(
        name="task", value=tasks[0], bind=alt.binding_select(options=list(tasks), labels=named, name="task ")
    )
    scale = alt.Scale(domain=[0, 1]) if shares else alt.Scale(zero=False)
    chart = (
        alt.Chart(alt.NamedData("cells"), width="container", height=height)
        .transform_lookup("c", alt.LookupData(alt.NamedData("columns"), "c", ["task", "x", "x2", "items"]))
        .transform_lookup("l", alt.LookupData(alt.NamedData("lines"), "l", ["order", "y", "y2", "candidates"]))
        .transform_filter("datum.order == order" + (" && datum.task == task" if len(tasks) > 1 else ""))
        .mark_rect()
        .encode(
            x=alt.X("x:Q", title="items, the easiest first", scale=alt.Scale(nice=False), axis=alt.Axis(grid=False)),
            x2="x2:Q",
            y=alt.Y(
                "y:Q",
                title="candidates",
                scale=alt.Scale(nice=False, reverse=True),
                axis=alt.Axis(grid=False, tickMinStep=1),
            ),
            y2="y2:Q",
            color=alt.Color(
                "v:Q",
                title="right" if shares else "score",
                scale=scale,
                legend=alt.Legend(format=".0%" if shares else ""),
            ),
            tooltip=[
                alt.Tooltip("candidates:N"),
                alt.Tooltip("items:N"),
                alt.Tooltip("v:Q", title="right" if shares else "score", format=".0%" if shares else ".4g"),
            ],
        )
    )
    return chart.add_params(order, task) if len(tasks) > 1 else chart.add_params(order)


def _lead(tasks: Mapping[str, Matrix], shares: bool) -> str:
    texts = []
    for task, (numbers, items, values) in tasks.items():
        quarter = max(1, len(numbers) // 4)
        first, last = values[:quarter], values[-quarter:]
        of = f"{visible(task, most=60)} " if len(tasks) > 1 else ""
        if not shares or len(numbers) < 4 or np.isnan(first).all() or np.isnan(last).all():
            texts.append(f"{of}{len(items)} items, {len(numbers)} candidates")
        else:
            texts.append(f"{of}{percentage(float(np.nanmean(first)))} % and {percentage(float(np.nanmean(last)))} %")
    more = f" (and {len(texts) - MOST} more tasks)" if len(texts) > MOST else ""
    if not any(text.endswith("%") for text in texts):
        return f"Scores on the search items: {', '.join(texts[:MOST])}{more}."
    return (
        "The first and the last quarter of the candidates have right, of the search items: "
        f"{', '.join(texts[:MOST])}{more}."
    )
