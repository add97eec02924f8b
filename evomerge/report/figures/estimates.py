"""What the estimates by which a search went are worth: beside the scores of the same models on all search items."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.analysis.estimates import CheckedEstimate, agreement, checked_estimates
from evomerge.record import Split
from evomerge.report.beside_chart import above, beside_chart, by_run
from evomerge.report.data import RunData
from evomerge.report.figure import Figure, Table
from evomerge.report.groups import labels_of
from evomerge.report.numbers import ScoreStyle, score_style, seen, span

MERGES, BASELINES = "merges", "parents, average"

MOST = 600
"""So many pairs are drawn at most, evenly spread over all."""

_WORDS = {"x": "all items", "y": "estimate", "y1": "from", "y2": "to", "error": "estimate above it"}

_RACE = (
    "In a race those merges get all items of which it stayed in doubt whether they belong to the best, so they are no "
    "sample of all merges. "
)
_LEFT_OUT = (
    "Parents and average answered all items; each is estimated by the run's estimator from the items that the next "
    "merge would have been asked, with everyone else known. It knows no genome of a parent, and has one reference less "
    "than in the search. "
)
_THINNED = f" The chart has {MOST} models at most, spread evenly over all."
_INTERVAL = (
    "The intervals are of the items that were not asked: 95 % of them should hold the score on all search items."
)


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw estimates against full scores; of each model the estimate from the fewest items."""
    pairs = {run: checked_estimates([*run.baselines, *run.records], run.traces) for run in runs}
    styles = {score_style(run) for run in runs if pairs[run]}
    if len(styles) != 1:
        return None
    style, several = styles.pop(), len(runs) > 1
    labels = dict(zip(runs, labels_of(runs), strict=True))
    first = {run: _first(own) for run, own in pairs.items()}
    rows = [_row(run, labels[run], one, style) for run, own in first.items() for one in own]
    step = math.ceil(len(rows) / MOST)
    merges = [one for own in first.values() for one in own if not one.record.is_baseline]
    baselines = [one for own in first.values() for one in own if one.record.is_baseline]
    return Figure(
        "estimates",
        "Estimates beside scores on all items",
        _lead(first, style),
        chart=beside_chart(
            rows[::step],
            style,
            colour="run" if several else "kind",
            names=[labels[run] for run in runs if pairs[run]] if several else [MERGES, BASELINES],
            titles=("score on all search items", "estimate from some of them"),
            words=_WORDS,
        ),
        table=_table(pairs, labels, style),
        note=(_RACE if merges else "") + (_LEFT_OUT if baselines else "") + _INTERVAL + (_THINNED if step > 1 else ""),
    )


def _first(pairs: Sequence[CheckedEstimate]) -> list[CheckedEstimate]:
    """Return of each model the estimate from the fewest items."""
    found: dict[int, CheckedEstimate] = {}
    for one in pairs:
        found.setdefault(one.record.number, one)
    return list(found.values())


def _row(run: RunData, label: str, one: CheckedEstimate, style: ScoreStyle) -> dict[str, Any]:
    low, high = one.interval
    if style.share:
        low, high = max(low, min(0.0, one.estimate.mean)), min(high, max(1.0, one.estimate.mean))
    return {
        "run": label,
        "kind": BASELINES if one.record.is_baseline else MERGES,
        "name": one.record.name,
        "asked": f"{one.estimate.n} of {run.n_items.get(Split.SEARCH, 0)} items",
        "x": seen(one.full),
        "y": seen(one.estimate.mean),
        "y1": seen(low),
        "y2": seen(high),
        "error": seen(one.error),
    }


def _lead(first: Mapping[RunData, Sequence[CheckedEstimate]], style: ScoreStyle) -> str:
    said = []
    for baseline in (False, True):
        own = {run: [one for one in pairs if one.record.is_baseline == baseline] for run, pairs in first.items()}
        every = [one for pairs in own.values() for one in pairs]
        found = agreement(every)
        if found is None:
            continue
        each = [one for one in map(agreement, own.values()) if one is not None]
        merges = f"{found.n} merge" + ("s" if found.n > 1 else "")
        whose = "parents and average, each left out," if baseline else merges
        asked = span([one.estimate.n for one in every])
        items = span([run.n_items.get(Split.SEARCH, 0) for run, pairs in own.items() if pairs])
        said.append(
            f"The estimates of {whose} from {asked} of {items} search items are {above(found.error, style)} "
            f"the scores on all of them on average{by_run(each, style)}, {style.change(found.distance).lstrip('+')} "
            f"whatever the sign; {found.hold} of {found.n} 95 % intervals hold the score."
        )
    return " ".join(said)


def _table(
    pairs: Mapping[RunData, Sequence[CheckedEstimate]], labels: Mapping[RunData, str], style: ScoreStyle
) -> Table:
    """Return how the estimates from each number of items agree; of one run each baseline has a row."""
    several = len(pairs) > 1
    rows: list[list[Any]] = []
    for run, own in pairs.items():
        groups: dict[tuple[str, int], list[CheckedEstimate]] = {}
        for one in own:
            who = MERGES if not one.record.is_baseline else BASELINES if several else one.record.name
            groups.setdefault((who, one.estimate.n), []).append(one)
        for (who, n), group in sorted(groups.items(), key=lambda one: (one[0][0] != MERGES, one[0][1])):
            found = agreement(group)
            assert found is not None, "a group has estimates"
            mean, distance = style.change(found.error), style.change(found.distance).lstrip("+")
            estimate, full = (
                math.fsum(values) / found.n
                for values in zip(*((one.estimate.mean, one.full) for one in group), strict=True)
            )
            rows.append(
                [
                    *([labels[run]] if several else []),
                    who,
                    found.n,
                    n,
                    style.mean(estimate),
                    style.mean(full),
                    mean,
                    distance,
                    f"{found.hold} of {found.n}",
                ]
            )
    columns = ["models", "estimates", "items asked", "mean estimate", "mean score on all", "estimate above it"]
    return Table([*(["run"] if several else []), *columns, "whatever the sign", "within 95 % intervals"], rows)
