"""Where the time went: merging, forward passes, what is around them, and the search itself."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Cell, Figure, Table
from evomerge.report.groups import labels_of
from evomerge.report.numbers import seen
from evomerge.system.figures import percentage
from evomerge.system.text import duration

PARTS = {
    "decode": "decode",
    "prefill": "prefill",
    "engine": "around the passes",
    "merge": "merge",
    "scoring": "scoring",
    "optimizer": "optimizer",
    "database": "database",
}
"""Parts of a trace, as they are called here and in the order in which they are stacked."""

OTHER = "other"
"""What is left of a candidate's time on its workers."""

PASSES = ("prefill", "decode")
WAIT = "wait"
WORTH = 0.05
"""Waiting below this share of the time is not worth a word."""

BINS, MOST_RUNS = 80, 24
HEIGHT = 260


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw where the time of candidates went; of several runs side by side."""
    return _of_one(runs[0]) if len(runs) == 1 else _of_several(runs)


def parts_of(run: RunData) -> dict[int, dict[str, float]]:
    """Return what the time of each candidate went into, by number; of those that were run and noted it."""
    found = {}
    for record in run.records:
        trace = run.traces.get(record.number)
        if trace is None or not trace.parts or record.same_as is not None:
            continue
        own = {name: seconds for name, seconds in trace.parts.items() if name != WAIT and math.isfinite(seconds)}
        worker = sum(seconds for name, seconds in own.items() if name not in ("optimizer", "database"))
        parts = {name: own.pop(name) for name in PARTS if name in own}
        # What a later version tells apart counts as the rest.
        parts[OTHER] = sum(own.values()) + max(0.0, record.seconds - worker)
        found[record.number] = parts
    return found


def _mean(each: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Return the mean seconds of each part, those that took most of all first in the order of `PARTS`."""
    total: defaultdict[str, float] = defaultdict(float)
    for parts in each.values():
        for name, seconds in parts.items():
            total[name] += seconds
    return {name: total[name] / len(each) for name in (*PARTS, OTHER) if total[name] > 0.0}


def _of_one(run: RunData) -> Figure | None:
    each = parts_of(run)
    mean = _mean(each) if each else {}
    if not mean:
        return None
    size = -(-len(each) // BINS)
    rows = list(_bars(each, size))
    names = [_name(part) for part in mean]
    title = "seconds a candidate" if size == 1 else f"seconds a candidate, means of {size}"
    chart = (
        alt.Chart(alt.NamedData("rows"), width="container", height=HEIGHT)
        .mark_rect()
        .encode(
            x=alt.X("first:Q", title="candidate", scale=alt.Scale(nice=False), axis=alt.Axis(tickMinStep=1)),
            x2="end:Q",
            y=alt.Y("from:Q", title=title),
            y2="to:Q",
            color=alt.Color("part:N", scale=alt.Scale(domain=names), legend=alt.Legend(title=None)),
            tooltip=[
                alt.Tooltip("part:N", title="part"),
                alt.Tooltip("seconds:Q", title="seconds", format=".3~g"),
                alt.Tooltip("share:Q", title="share", format=".1%"),
                alt.Tooltip("who:N", title="of"),
            ],
        )
    )
    note = "Times of workers add up where several shared a candidate. Baselines, validation and test are not in it."
    waits = [run.traces[number].parts.get(WAIT, 0.0) for number in each]
    if sum(waits) > WORTH * sum(mean.values()) * len(each):
        note += (
            f" Besides, a candidate waited {duration(sum(waits) / len(waits))} on average: for a worker, its turn, or "
            "the rest of its generation."
        )
    return Figure(
        "time", "Where the time went", _lead(each, mean), specification(chart, rows=rows), _table(each, mean), note=note
    )


def _bars(each: Mapping[int, Mapping[str, float]], size: int) -> Iterator[dict[str, Any]]:
    numbers = sorted(each)
    for begin in range(0, len(numbers), size):
        own = numbers[begin : begin + size]
        mean = _mean({number: each[number] for number in own})
        total = sum(mean.values())
        who = f"candidate {own[0]}" if len(own) == 1 else f"candidates {own[0]} to {own[-1]}"
        below = 0.0
        for part, seconds in mean.items():
            row = {"first": own[0] - 0.5, "end": own[-1] + 0.5, "part": _name(part), "who": who}
            place = {"from": seen(below), "to": seen(below + seconds)}
            yield {**row, **place, "seconds": seen(seconds), "share": seen(seconds / total)}
            below += seconds


def _name(part: str) -> str:
    return PARTS.get(part, part)


def _outside(mean: Mapping[str, float]) -> float | None:
    """Return the share of the time that is outside of forward passes; None: passes were not told apart."""
    passes = sum(mean.get(name, 0.0) for name in PASSES)
    return 1.0 - passes / sum(mean.values()) if passes > 0.0 else None


def _lead(each: Mapping[int, Mapping[str, float]], mean: Mapping[str, float]) -> str:
    total, outside = sum(mean.values()), _outside(mean)
    most = max(mean, key=lambda part: mean[part])
    said = f"A candidate took {duration(total)} on average"
    if outside is None:
        said += "; forward passes were not told apart from what is around them"
    else:
        said += f": {percentage(1.0 - outside)} % in forward passes, {percentage(outside)} % outside of them"
    return f"{said}. Most of it is {_name(most)} ({percentage(mean[most] / total)} %). {_trend(each)}".strip()


def _trend(each: Mapping[int, Mapping[str, float]]) -> str:
    """Say where later candidates took much longer or shorter than earlier ones."""
    totals = [sum(each[number].values()) for number in sorted(each)]
    if len(totals) < 12:
        return ""
    third = len(totals) // 3
    early, late = sum(totals[:third]) / third, sum(totals[-third:]) / third
    if early <= 0.0 or 0.75 < late / early < 1.33:
        return ""
    return f"The last third took {late / early:.2g} times as long as the first."


def _table(each: Mapping[int, Mapping[str, float]], mean: Mapping[str, float]) -> Table:
    total = sum(mean.values())
    rows: list[list[Cell]] = [
        [_name(part), seen(seconds), f"{percentage(seconds / total)} %", duration(seconds * len(each))]
        for part, seconds in mean.items()
    ]
    rows.append(["all", seen(total), "100 %", duration(total * len(each))])
    return Table(["part", "seconds a candidate", "share", f"in all {len(each):,} candidates"], rows)


# ---- several runs ----


def _of_several(runs: Sequence[RunData]) -> Figure | None:
    found = [(label, _mean(each)) for run, label in zip(runs, labels_of(runs), strict=True) if (each := parts_of(run))]
    found = [(label, mean) for label, mean in found if mean]
    if not found:
        return None
    shown = found[:MOST_RUNS]
    names = [_name(part) for part in (*PARTS, OTHER) if any(part in mean for _, mean in shown)]
    rows = [
        {"run": label, "part": _name(part), "place": names.index(_name(part)), "seconds": seen(seconds),
         "share": seen(seconds / sum(mean.values()))}
        for label, mean in shown
        for part, seconds in mean.items()
    ]  # fmt: skip
    chart = (
        alt.Chart(alt.NamedData("rows"), width="container", height=min(360, max(100, 28 * len(shown))))
        .mark_bar()
        .encode(
            x=alt.X("seconds:Q", title="seconds a candidate", stack=True),
            y=alt.Y("run:N", title=None, sort=None, axis=alt.Axis(labelLimit=200)),
            color=alt.Color("part:N", scale=alt.Scale(domain=names), legend=alt.Legend(title=None)),
            order=alt.Order("place:Q"),
            tooltip=[
                alt.Tooltip("run:N", title="run"),
                alt.Tooltip("part:N", title="part"),
                alt.Tooltip("seconds:Q", title="seconds a candidate", format=".3~g"),
                alt.Tooltip("share:Q", title="share", format=".1%"),
            ],
        )
    )
    table: list[list[Cell]] = []
    for label, mean in found:
        outside = _outside(mean)
        share = "–" if outside is None else f"{percentage(outside)} %"
        table.append([label, seen(sum(mean.values())), share])
    totals = {label: sum(mean.values()) for label, mean in found}
    slow, fast = max(totals, key=lambda one: totals[one]), min(totals, key=lambda one: totals[one])
    lead = f"A candidate of {fast} took {duration(totals[fast])} on average"
    if slow != fast:
        lead += f", the shortest; one of {slow} {duration(totals[slow])}, the longest"
    note = "Times on different machines, or on a busy one, do not compare."
    if len(found) > MOST_RUNS:
        note += f" The first {MOST_RUNS} of {len(found)} runs are drawn."
    columns = ["run", "seconds a candidate", "outside of forward passes"]
    return Figure(
        "time", "Where the time went", f"{lead}.", specification(chart, rows=rows), Table(columns, table), note=note
    )
