"""What the scores by which the search went are worth: estimates, or search scores, beside validation scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.analysis.estimates import Compared, agreement, compared_scores
from evomerge.report.beside_chart import above, beside_chart, by_run
from evomerge.report.data import RunData
from evomerge.report.figure import Figure, Table
from evomerge.report.groups import labels_of
from evomerge.report.numbers import ScoreStyle, score_style, seen, span

FINALISTS, BASELINES = "finalists", "parents, average"

_WORDS = {
    "x": "search", "x1": "from", "x2": "to", "y": "validation", "y1": "from ", "y2": "to ", "error": "difference",
}  # fmt: skip

_MIXES = (
    "The difference of the two scores mixes the luck of the items with the choice of the finalists, who were chosen "
    "for their search scores; parents and average were not."
)
_ESTIMATED = (
    "A candidate that was asked about a part of the search items has no full score on them, so its estimate stands "
    "beside its validation score. "
)


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw search scores against validation scores, with the intervals of both."""
    pairs = {run: compared_scores(run.run, [*run.baselines, *run.records]) for run in runs}
    chosen = {run: [one for one in own if not one.record.is_baseline] for run, own in pairs.items()}
    styles = {score_style(run) for run in runs if chosen[run]}
    if not any(chosen.values()) or len(styles) > 1:
        return None
    style = styles.pop()
    several, labels = len(runs) > 1, dict(zip(runs, labels_of(runs), strict=True))
    rows = [
        _row(labels[run], one) for run, own in pairs.items() for one in own if not several or not one.record.is_baseline
    ]
    estimated = any(one.estimated for own in chosen.values() for one in own)
    search = "estimate" if estimated else "score"
    return Figure(
        "validated",
        "Estimates beside validation scores" if estimated else "Search scores beside validation scores",
        _lead(list(chosen.values()), style) + _yardstick(pairs, style, several),
        chart=beside_chart(
            rows,
            style,
            colour="run" if several else "kind",
            names=[labels[run] for run in runs if chosen[run]] if several else [FINALISTS, BASELINES],
            titles=(f"{search} on the search items", "score on the validation items"),
            words=_WORDS,
        ),
        table=_table({labels[run]: own for run, own in pairs.items()}, style, several, estimated),
        note=(_ESTIMATED if estimated else "") + _MIXES,
    )


def _row(label: str, one: Compared) -> dict[str, Any]:
    return {
        "run": label,
        "kind": BASELINES if one.record.is_baseline else FINALISTS,
        "name": one.record.name,
        "asked": f"{one.search.n} of {one.items} items",
        "x": seen(one.search.mean),
        "x1": seen(one.search.low),
        "x2": seen(one.search.high),
        "y": seen(one.validation.mean),
        "y1": seen(one.validation.low),
        "y2": seen(one.validation.high),
        "error": seen(one.error),
    }


def _lead(chosen: Sequence[Sequence[Compared]], style: ScoreStyle) -> str:
    each = [one for one in map(agreement, chosen) if one is not None]
    every = [one for own in chosen for one in own]
    found = agreement(every)
    if found is None:
        return ""
    what = "search scores"
    estimated = [one for one in every if one.estimated]
    if estimated:
        what = f"estimates from {span([one.search.n for one in estimated])} of {estimated[0].items} search items"
    return (
        f"The {what} of {found.n} finalists are {above(found.error, style)} their validation scores on "
        f"average{by_run(each, style)}, {style.change(found.distance).lstrip('+')} whatever the sign; {found.hold} of "
        f"{found.n} agree within their 95 % intervals."
    )


def _yardstick(pairs: Mapping[RunData, Sequence[Compared]], style: ScoreStyle, several: bool) -> str:
    found = agreement([one for own in pairs.values() for one in own if one.record.is_baseline])
    if found is None or several:
        return ""
    return f" Those of parents and average are {above(found.error, style)} theirs."


def _table(pairs: Mapping[str, Sequence[Compared]], style: ScoreStyle, several: bool, estimated: bool) -> Table:
    rows: list[list[Any]] = []
    marked = set()
    for label, own in pairs.items():
        for one in own:
            low, high = one.interval
            if not one.holds:
                marked.add(len(rows))
            rows.append(
                [
                    *([label] if several else []),
                    one.record.name,
                    one.search.n,
                    style.score(one.search),
                    *([None if one.last is None else style.mean(one.last)] if estimated else []),
                    style.score(one.validation),
                    style.difference({"difference": one.error, "low": low, "high": high}),
                    "yes" if one.holds else "no",
                ]
            )
    columns = [
        *(["run"] if several else []),
        *("model", "items asked", "search" if not estimated else "search (estimate)"),
        *(["estimate at the end"] if estimated else []),
        *("validation", "search above validation", "agree"),
    ]
    return Table(columns, rows, frozenset(marked))
