"""How the winner was chosen: the finalists on the validation items, and what is left of its score without luck."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from evomerge.record import Record, Split
from evomerge.report.chart import specification
from evomerge.report.data import RunData, score
from evomerge.report.figure import Cell, Figure, Table
from evomerge.report.numbers import ScoreStyle, score_style, seen
from evomerge.report.searched import named

KEY = "finalists"
_ROW, _MOST = 24, 13
_FINALIST, _WINNER, _ADJUSTED, _SEARCH = "finalist", "chosen", "chosen, without luck", "search score"


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the finalists of one run that has chosen."""
    if len(runs) != 1 or not runs[0].chosen:
        return None
    run = runs[0]
    finalists = sorted(_finalists(run), key=lambda one: -_mean(one))
    if not finalists:
        return None
    style = score_style(run)
    shown = [one for one in finalists if one in run.chosen][:_MOST]
    shown += [one for one in finalists if one not in shown][: _MOST - len(shown)]
    shown.sort(key=lambda one: -_mean(one))
    left = len(finalists) - len(shown)
    note = "Lines are 95 % intervals of the validation score; small dots the scores on the search items, which flatter."
    note += f" {left} more stand in the table." if left else ""
    chart = _chart(run, shown, style)
    return Figure(
        KEY, "The choice", _lead(run, finalists, style), chart=chart, table=_table(run, finalists, style), note=note
    )


def _finalists(run: RunData) -> Iterator[Record]:
    for record in run.records:
        own = score(record, Split.VALIDATION)
        if own is not None and seen(own.mean) is not None and record.same_as is None:
            yield record


def _mean(record: Record) -> float:
    own = score(record, Split.VALIDATION)
    return own.mean if own is not None else 0.0


def _chart(run: RunData, shown: Sequence[Record], style: ScoreStyle) -> dict[str, Any]:
    chosen = {record.number for record in run.chosen}
    rows: list[dict[str, Any]] = []
    against = {one["id"]: one for one in run.status["finalists"]}
    for record in shown:
        own = score(record, Split.VALIDATION)
        assert own is not None
        one = against.get(record.number)
        said = "–" if one is None else f"{style.difference(one)} of the winner over it"
        row = {"name": record.name, "text": style.score(own), "said": said}
        kind = _WINNER if record.number in chosen else _FINALIST
        rows.append({**row, "kind": kind, "score": seen(own.mean), "low": seen(own.low), "high": seen(own.high)})
        search = score(record, Split.SEARCH)
        if search is not None and seen(search.mean) is not None:
            rows.append({**row, "kind": _SEARCH, "score": seen(search.mean), "text": style.score(search)})
    adjusted = (run.status["best"] or {}).get("adjusted")
    if adjusted and run.best in shown and run.best is not None:
        said = "the score of the rule on items that did not choose"
        luckless = {"name": run.best.name, "kind": _ADJUSTED, "text": style.score(adjusted), "said": said}
        rows.append({**luckless, "score": seen(adjusted["mean"])})
    kinds = [kind for kind in (_WINNER, _FINALIST, _SEARCH, _ADJUSTED) if any(row["kind"] == kind for row in rows)]
    base = alt.Chart(alt.NamedData("finalists"))
    axis = alt.Axis(labelLimit=150, ticks=False, domain=False)
    what = "score on the validation items" if not style.worst else "worst task relative to its best parent, validation"
    x = alt.X("score:Q", title=what, axis=alt.Axis(format=style.axis, tickCount=8), scale=alt.Scale(zero=False))
    how: dict[str, Any] = {
        "y": alt.Y("name:N", sort=[record.name for record in shown], title=None, axis=axis),
        "color": alt.Color("kind:N", scale=alt.Scale(domain=kinds), legend=alt.Legend(title=None, symbolOpacity=1)),
        "tooltip": [
            alt.Tooltip("name:N", title="candidate"),
            alt.Tooltip("kind:N"),
            alt.Tooltip("text:N", title="score"),
            alt.Tooltip("said:N", title="note"),
        ],
    }
    span = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2)
    small = base.transform_filter(f"datum.kind == '{_SEARCH}'").mark_point(filled=True, size=30)
    large = base.transform_filter(f"datum.kind != '{_SEARCH}'").mark_point(filled=True, size=75, opacity=1)
    layers = [
        span.encode(x=alt.X("low:Q", title=what), x2="high:Q", **how),
        small.encode(x=x, **how),
        large.encode(
            x=x, shape=alt.condition(f"datum.kind == '{_ADJUSTED}'", alt.value("diamond"), alt.value("circle")), **how
        ),
    ]
    made = alt.layer(*layers, width="container", height=max(100, _ROW * len(shown) + 20))
    return specification(made, finalists=rows)


def _lead(run: RunData, finalists: Sequence[Record], style: ScoreStyle) -> str:
    status = run.status
    n = len(finalists)
    kind = (status["choice"] or {}).get("kind")
    best = run.best
    own = score(best, Split.VALIDATION)
    if best is None or own is None:
        return f"{n} candidates were scored on the validation items."
    if kind != "winner" or len(run.chosen) > 1:
        chosen = f"{len(run.chosen)} {'was' if len(run.chosen) == 1 else 'were'} chosen as {kind or 'the choice'}"
        return f"{n} candidates were scored on {own.n:,} validation items, which the search never saw; {chosen}."
    others = status["finalists"]
    level = sum(one["low"] <= 0.0 for one in others)
    said = [
        f"Of {n} candidates that were scored on {own.n:,} validation items, {best.name} won with {style.score(own)}"
    ]
    if others:
        who = f"none of the {len(others)} others" if level == len(others) else f"{len(others) - level} of the others"
        said.append(f"{who} can be told from it there (paired 95 % intervals)")
    adjusted = (status["best"] or {}).get("adjusted")
    if adjusted:
        said.append(f"without the luck of the best of {len(others) + 1} its score is {style.score(adjusted)}")
    return "; ".join(said) + "." + "".join(_aside(status, style))


def _aside(status: Mapping[str, Any], style: ScoreStyle) -> Iterator[str]:
    """Yield who was ahead of the winner on the validation items, and why it was not chosen."""
    over = status["passed_over"]
    if over:
        yield (
            f" The consensus was chosen over {named([over['name']])} ({style.score(over['validation'])}), which is "
            "ahead of it by no more than a standard error."
        )
    out = status["excluded"]
    if out:
        yield (
            f" {named([out['name']])} is ahead of it ({style.score(out['validation'])}), but breaks a limit there: "
            f"{out['broken_limits'][0]}."
        )


def _table(run: RunData, finalists: Sequence[Record], style: ScoreStyle) -> Table:
    against = {one["id"]: one for one in run.status["finalists"]}
    chosen = {record.number for record in run.chosen}
    rows: list[list[Cell]] = []
    for record in finalists:
        scores = [score(record, split) for split in (Split.SEARCH, Split.VALIDATION, Split.TEST)]
        one = against.get(record.number)
        cells = [None if own is None else style.score(own) for own in scores]
        behind = None if one is None else style.difference(one)
        rows.append([record.name, *cells, behind, "yes" if record.number in chosen else "no"])
    heads = ["candidate", "search", "validation", "test", "the winner over it, validation [95 %]", "chosen"]
    return Table(heads, rows)
