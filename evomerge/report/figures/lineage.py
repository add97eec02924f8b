"""Which candidate came from which: the ancestors of those that were chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import altair as alt

from evomerge.record import Record, Split
from evomerge.report.chart import specification
from evomerge.report.data import RunData, score
from evomerge.report.figure import Cell, Figure, Table
from evomerge.report.numbers import ScoreStyle, score_style, seen
from evomerge.report.searched import named

MOST = 60
"""So many candidates are drawn at most, those nearest to the chosen ones."""

HEIGHT = 320

CHOSEN, CONSENSUS, ANCESTOR = "chosen", "consensus", "ancestor"


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the tree of one run; None where no chosen candidate has parents among the candidates."""
    if len(runs) != 1:
        return None
    run = runs[0]
    chosen = _chosen(run)
    generations = ancestors(run, [record.number for record in chosen])
    if len(generations) <= len(chosen):
        return None
    nodes = list(generations)[:MOST]
    style = score_style(run)
    placed = {number: mean for number in nodes if (mean := _mean(run, number)) is not None}
    kinds = {number: _kind(run, number, chosen) for number in placed}
    if len(placed) < 2:
        return None
    edges = [
        {
            "candidate": parent,
            "score": seen(placed[parent]),
            "to": child,
            "to_score": seen(placed[child]),
            "text": f"candidate {parent} → {_called(run, child)}",
        }
        for child in placed
        for parent in _parents(run, child)
        if parent in placed
    ]
    rows = [
        {
            "candidate": number,
            "score": seen(mean),
            "kind": kinds[number],
            "name": _called(run, number),
            "text": _scored(run, number, style),
            "parents": _listed(_parents(run, number)) or "–",
            "stage": _stage_of(run, number) + 1,
        }
        for number, mean in placed.items()
    ]
    left_out = len(generations) - len(nodes)
    note = f"The {MOST} nearest of {len(generations):,} ancestors are drawn." if left_out else ""
    return Figure(
        "lineage",
        "Lineage",
        _lead(run, chosen, generations),
        chart=specification(_chart(kinds, style), edges=edges, rows=rows),
        table=_table(run, nodes, kinds, style),
        note=note,
    )


def ancestors(run: RunData, numbers: Sequence[int]) -> dict[int, int]:
    """Return candidates and all from which they were bred: number to how many steps it is away, the nearest first."""
    found = dict.fromkeys(numbers, 0)
    waiting = list(numbers)
    for number in waiting:  # grows meanwhile
        for parent in _parents(run, number):
            if parent not in found:
                found[parent] = found[number] + 1
                waiting.append(parent)
    return found


def _parents(run: RunData, number: int) -> tuple[int, ...]:
    """Return the candidates from which one was bred; a damaged trace that names later ones names none."""
    trace = run.traces.get(number)
    found = () if trace is None else trace.parents
    return tuple(one for one in found if one < number and run.record(one) is not None)


def _chosen(run: RunData) -> list[Record]:
    best = [] if run.best is None else [run.best]
    return list(run.chosen) or best


def _mean(run: RunData, number: int) -> float | None:
    own = score(run.record(number), Split.SEARCH)
    return None if own is None or not math.isfinite(own.mean) else own.mean


def _scored(run: RunData, number: int, style: ScoreStyle) -> str:
    own = score(run.record(number), Split.SEARCH)
    return "–" if own is None else style.score(own)


def _called(run: RunData, number: int) -> str:
    record = run.record(number)
    return f"candidate {number}" if record is None else named([record.name])


def _kind(run: RunData, number: int, chosen: Sequence[Record]) -> str:
    if any(record.number == number for record in chosen):
        return CHOSEN
    record = run.record(number)
    return CONSENSUS if record is not None and record.is_consensus else ANCESTOR


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _chart(kinds: Mapping[int, str], style: ScoreStyle) -> alt.LayerChart:
    present = [kind for kind in (CHOSEN, CONSENSUS, ANCESTOR) if kind in kinds.values()]
    axis = alt.Axis(tickMinStep=1, labelExpr="datum.value < 0 ? '' : datum.label")  # the padding is no candidate
    x = alt.X("candidate:Q", title="candidate", axis=axis, scale=alt.Scale(zero=False, padding=24))
    scale = alt.Scale(zero=False, padding=20)
    y = alt.Y("score:Q", title="score on the search items", axis=alt.Axis(format=style.axis), scale=scale)
    lines = alt.Chart(alt.NamedData("edges")).mark_rule(opacity=0.5)
    dots = alt.Chart(alt.NamedData("rows")).mark_point(filled=True, size=90, opacity=1)
    names = alt.Chart(alt.NamedData("rows")).mark_text(dy=-11, tooltip=False)
    return alt.layer(
        lines.encode(x=x, y=y, x2="to:Q", y2="to_score:Q", tooltip=alt.Tooltip("text:N", title="bred")),
        dots.encode(
            x=x,
            y=y,
            color=alt.Color("kind:N", scale=alt.Scale(domain=present), legend=alt.Legend(title=None)),
            shape=alt.Shape("kind:N", scale=alt.Scale(domain=present)),
            tooltip=[
                alt.Tooltip("name:N", title="candidate"),
                alt.Tooltip("text:N", title="score on the search items"),
                alt.Tooltip("parents:N", title="bred from"),
                alt.Tooltip("stage:N", title="stage"),
            ],
        ),
        names.encode(x=x, y=y, text="candidate:N"),
    ).properties(width="container", height=HEIGHT)


def _lead(run: RunData, chosen: Sequence[Record], generations: Mapping[int, int]) -> str:
    best = chosen[0]
    own = _parents(run, best.number)
    if best.is_consensus:
        said = f"The best merge is the mean of candidates {_listed(own)}"
    elif own:
        said = f"The best merge, {named([best.name])}, was bred from candidate{'s' * (len(own) > 1)} {_listed(own)}"
    else:
        said = f"The best merge, {named([best.name])}, was bred from no other candidate"
    behind, far = len(generations) - len(chosen), max(generations.values())
    chosen_ones = "it has" if len(chosen) == 1 else f"the {len(chosen)} chosen merges have"
    steps = f" over {far} steps" if far > 1 else ""
    if _stage_of(run, best.number) and len(own) == 1 and not best.is_consensus:
        said += ", the best of the stages before"
    return f"{said}; {chosen_ones} {behind:,} ancestor{'s' * (behind != 1)}{steps} among the candidates."


def _stage_of(run: RunData, number: int) -> int:
    trace = run.traces.get(number)
    return 0 if trace is None else trace.stage


def _table(run: RunData, nodes: Sequence[int], kinds: Mapping[int, str], style: ScoreStyle) -> Table:
    def rows() -> Iterator[list[Cell]]:
        for number in sorted(nodes):
            bred = _listed(_parents(run, number)) or "–"
            stage = _stage_of(run, number) + 1
            yield [_called(run, number), kinds.get(number, ANCESTOR), stage, bred, _scored(run, number, style)]

    return Table(["candidate", "what", "stage", "bred from", "score on the search items"], list(rows()))
