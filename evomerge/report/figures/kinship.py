"""How the parents are related: cosines of their task vectors, and how far each is from the base."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Cell, Figure, Table
from evomerge.report.numbers import seen
from evomerge.report.searched import named
from evomerge.system.figures import percentage
from evomerge.system.text import cut

MOST = 16
"""So many parents are drawn at most; the table has all pairs."""

ALIKE, OPPOSED = 0.5, -0.1
"""The cosines from which task vectors are called much alike, and to which they are said to pull apart."""

FAINT = 0.55
"""The opacity of a cell, on which a number can be read in light and in dark."""

VERDICTS = {
    "same": "made from the same weights",
    "doubtful": "doubtful",
    "foreign": "not made from the same weights",
}

_LONGEST = 200


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the kinship of one run's parents, or of several runs with the same parents."""
    found = [run.kinship for run in runs]
    first = found[0] if found else None
    if first is None or any(one != first for one in found):
        return None
    pairs = [one for one in _pairs(first) if one["b"] != first.get("base")]
    key, what = "cosine", "cosine of the task vectors"
    if not any(_number(one.get(key)) is not None for one in pairs):
        key, what = "correlation", "correlation of the weights"
    measured = {(str(one["a"]), str(one["b"])): _number(one.get(key)) for one in pairs}
    if not any(value is not None for value in measured.values()):
        return None
    names = [str(name) for name in first.get("parents") or dict.fromkeys(n for pair in measured for n in pair)]
    chart = None
    if len(names) > 2:  # one number is better read
        chart = specification(_chart(names[:MOST], what), rows=list(_cells(names[:MOST], measured, pairs)))
    return Figure(
        "kinship",
        "Kinship of the parents",
        _lead(first, measured, what),
        chart=chart,
        table=_table(first, pairs, names),
        note=_note(key, names),
    )


def _number(value: Any) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None


def _pairs(kinship: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = kinship.get("pairs")
    return [one for one in found or () if isinstance(one, Mapping) and "a" in one and "b" in one]


def _cells(
    names: Sequence[str], measured: Mapping[tuple[str, str], float | None], pairs: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    verdicts = {(str(one["a"]), str(one["b"])): _verdict(one.get("verdict")) for one in pairs}
    for one in names:
        for other in names:
            pair = (one, other) if (one, other) in measured else (other, one)
            value = measured.get(pair)
            if value is not None:
                row = {"one": one, "other": other, "value": seen(value), "text": f"{value:.2f}"}
                yield {**row, "verdict": verdicts.get(pair, "–")}


def _verdict(word: Any) -> str:
    return VERDICTS.get(str(word), str(word)) if word is not None else "–"


def _chart(names: Sequence[str], what: str) -> alt.LayerChart:
    base = alt.Chart(alt.NamedData("rows"))
    axis = alt.Axis(labelLimit=140, labelAngle=0 if len(names) < 6 else -40, title=None, domain=False, ticks=False)
    x = alt.X("one:N", sort=list(names), axis=axis)
    y = alt.Y("other:N", sort=list(names), axis=alt.Axis(labelLimit=140, title=None, domain=False, ticks=False))
    tip = [
        alt.Tooltip("one:N", title="parent"),
        alt.Tooltip("other:N", title="and"),
        alt.Tooltip("value:Q", title=what, format=".3f"),
        alt.Tooltip("verdict:N", title="verdict"),
    ]
    colour = alt.Color("value:Q", scale=alt.Scale(domain=[-1, 0, 1], range="diverging"), legend=alt.Legend(title=what))
    cells = base.mark_rect().encode(x=x, y=y, color=colour, tooltip=tip)
    texts = base.mark_text(tooltip=False).encode(x=x, y=y, text="text:N")
    height = min(360, max(120, 44 * len(names)))
    return alt.layer(cells, texts).properties(width="container", height=height)


def _lead(kinship: Mapping[str, Any], measured: Mapping[tuple[str, str], float | None], what: str) -> str:
    known = {pair: value for pair, value in measured.items() if value is not None}
    (a, b), most = max(known.items(), key=lambda one: one[1])
    if len(known) == 1:
        said = f"{named([a])} and {named([b])}: {what} {most:.2f}"
    else:
        (c, d), least = min(known.items(), key=lambda one: one[1])
        said = (
            f"Most alike are {named([a])} and {named([b])} ({what} {most:.2f}), least {named([c])} and {named([d])} "
            f"({least:.2f})"
        )
    if what.startswith("cosine"):
        lowest = min(known.values())
        if most > ALIKE:
            said += "; those above 0.5 learned much the same, so that a merge of them adds little"
        elif lowest < OPPOSED:
            said += "; where it is below 0, what one learned pulls against the other"
        else:
            said += "; they learned different things, which hardly disturb each other"
    strangers = [
        str(one.get("name")) for one in kinship.get("models") or () if one.get("verdict") not in ("same", None)
    ]
    if strangers:
        origin = "the base" if kinship.get("base") is not None else "the same weights as the others"
        were = "it was" if len(strangers) == 1 else "they were"
        said += f". Look at {named(strangers)}: whether {were} made from {origin} is doubtful"
    return f"{said}."


def _table(kinship: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    base = kinship.get("base")
    moved = {str(one["a"]): _number(one.get("distance")) for one in _pairs(kinship) if one["b"] == base}
    judged = {str(one.get("name")): one for one in kinship.get("models") or () if isinstance(one, Mapping)}
    rows: list[list[Cell]] = []
    marked = set()
    for name in names:
        own = judged.get(name, {})
        distance = moved.get(name)
        if own.get("verdict") not in ("same", None):
            marked.add(len(rows))
        said = cut(str(own.get("reason") or "–"), _LONGEST)
        far = "–" if distance is None else f"{percentage(distance)} %"
        rows.append([name, str(base or "the others"), _verdict(own.get("verdict")), None, far, said])
    for one in pairs:
        distance, cosine = _number(one.get("distance")), _number(one.get("cosine"))
        far = "–" if distance is None else f"{percentage(distance)} %"
        agree = _number(one.get("sign_agreement"))
        said = "–" if agree is None else f"{percentage(agree)} % of the signs of what both moved are equal"
        cells: list[Cell] = [str(one["a"]), str(one["b"]), _verdict(one.get("verdict"))]
        rows.append([*cells, None if cosine is None else round(cosine, 3), far, said])
    columns = ["model", "and", "verdict", "cosine of task vectors", "distance, of the norm of weights", "why"]
    return Table(columns, rows, frozenset(marked))


def _note(key: str, names: Sequence[str]) -> str:
    said = [
        "Estimated from samples of the weights."
        if key == "cosine"
        else "Without a base there are no task vectors, so weights are compared; models of one ancestry are near 1."
    ]
    if len(names) > MOST:
        said.append(f"The first {MOST} of {len(names)} parents are drawn.")
    return " ".join(said)
