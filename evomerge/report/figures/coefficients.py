"""What the best recipe says for each layer and parent, as a heat map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt

from evomerge.report.chart import specification
from evomerge.report.coefficients import (
    ALL,
    EMBEDDINGS,
    FINAL_NORM,
    HEAD,
    OUTSIDE,
    Coefficient,
    coefficients,
    merged_part,
    n_layers,
)
from evomerge.report.data import RunData
from evomerge.report.figure import Figure, Table
from evomerge.report.groups import groups_of
from evomerge.report.numbers import seen
from evomerge.system.text import visible

ALL_PARENTS = "all parents"
METHOD, WEIGHT = "method", "weight"

_NEEDED, _LETTER = 30, 6
"""Pixels of a column in which a number can be read, and of a letter."""

_LONGEST = 14
"""Letters of a part beside the chart; its tooltips have all."""

_STRONG = 0.72
"""The part of a ramp from which numbers have the colour of the ground, which then is easier to read in both themes."""


@dataclass
class _Cell:
    """One coefficient over the runs of one configuration."""

    first: Coefficient
    values: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    @property
    def spread(self) -> float:
        n, mean = len(self.values), self.mean
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self.values) / (n - 1)) if n > 1 else 0.0

    @property
    def text(self) -> str:
        """Its mean, and of several runs the spread."""
        return f"{self.mean:.4g}" + (f" ± {self.spread:.2g}" if len(self.values) > 1 else "")


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the numbers of the best recipe, of several runs their means over the seeds of each configuration."""
    groups = []
    about = ""
    for group in groups_of(runs):
        cells: dict[tuple[str, str, str, str], _Cell] = {}
        n = 0
        for run in group.runs:
            recipe, words = (None, "") if run.best_recipe is None else merged_part(run.best_recipe)
            if recipe is None:
                continue
            n, about = n + 1, about or words
            layers = n_layers(recipe, [str(gene["name"]) for gene in run.genes])
            for one in coefficients(recipe, layers):
                cells.setdefault(one.key, _Cell(one)).values.append(one.value)
        if cells:
            groups.append((group.label, n, list(cells.values())))
    if not groups:
        return None
    drawn = [(label, n, _varying(cells)) for label, n, cells in groups]
    drawn = [(label, n, cells) for label, n, cells in drawn if cells]
    title = "What the merge takes from whom"
    seeds = max(n for _, n, _ in groups)
    note = [f"The numbers {about}." if about else "", _same_everywhere(groups[0][2])]
    if seeds > 1:
        note.append("Means over seeds; the spread is a standard deviation.")
    note.append("What a parameter means is told by: `evomerge methods NAME`.")
    return Figure(
        "coefficients",
        title,
        _lead(groups[0][2], seeds),
        chart=_chart(drawn) if drawn else None,
        table=_table(groups),
        note=" ".join(filter(None, note)),
    )


def _varying(cells: Sequence[_Cell]) -> list[_Cell]:
    """Return the cells of parameters that differ between places or parents, or are not said everywhere."""
    values: dict[str, set[tuple[str, float]]] = {}
    places: dict[str, set[tuple[str, str]]] = {}
    for cell in cells:
        values.setdefault(cell.first.parameter, set()).add((cell.first.method, round(cell.mean, 12)))
        places.setdefault(cell.first.parameter, set()).add((cell.first.part, cell.first.place))
    everywhere = set().union(*places.values())
    return [
        cell for cell in cells if len(values[cell.first.parameter]) > 1 or places[cell.first.parameter] != everywhere
    ]


def _same_everywhere(cells: Sequence[_Cell]) -> str:
    varying = {cell.first.parameter for cell in _varying(cells)}
    same = {cell.first.parameter: cell.mean for cell in cells if cell.first.parameter not in varying}
    words = sorted({cell.first.words for cell in cells if cell.first.words})
    parts = [f"{name}: {value:.4g}" for name, value in same.items()] + (words if len(words) == 1 else [])
    return f"The same everywhere: {', '.join(parts)}." if parts else ""


def _where(cell: Coefficient) -> str:
    """Return the row of a heat map to which a cell belongs, without its parent."""
    if not cell.part:
        return "" if cell.place.isdigit() or cell.place == ALL else "outside"
    return cell.part if len(cell.part) <= _LONGEST else f"{cell.part.split(', ')[0][:_LONGEST]}, …"


def _rows(groups: Sequence[tuple[str, int, Sequence[_Cell]]]) -> list[dict[str, Any]]:
    found = []
    for label, _, cells in groups:
        parts = {cell.first.part for cell in cells}
        for cell in cells:
            one = cell.first
            where = _where(one) if len(parts) > 1 else ""  # where all roles are one part, the ends join its rows
            parent = one.parent or ALL_PARENTS
            found.append(
                {
                    "runs": label,
                    "what": one.parameter,
                    "row": f"{parent} · {where}" if where else parent,
                    "part": one.part or ("all of the layer" if one.place.isdigit() else one.place),
                    "parent": parent,
                    "place": one.place,
                    "v": seen(cell.mean),
                    "text": _short(cell.mean),
                    "value": cell.text,
                    "method": one.method + (f" ({one.words})" if one.words else ""),
                    "group": one.group or "–",
                }
            )
    return found


def _chart(groups: Sequence[tuple[str, int, Sequence[_Cell]]]) -> dict[str, Any]:
    rows = _rows(groups)
    whats = list(dict.fromkeys(cell.first.parameter for _, _, cells in groups for cell in cells))
    # Parameters of a parent come first: they say what is taken from whom.
    whats.sort(
        key=lambda what: (what != WEIGHT, all(row["parent"] == ALL_PARENTS for row in rows if row["what"] == what))
    )
    labels = [label for label, _, _ in groups]
    places = _order({row["place"] for row in rows})
    strongest = {what: max(abs(row["v"] or 0.0) for row in rows if row["what"] == what) for what in whats}
    for row in rows:
        row["strong"] = abs(row["v"] or 0.0) > _STRONG * strongest[row["what"]]
    signed = any((row["v"] or 0.0) < 0.0 for row in rows)
    params = []
    filters = []
    for name, field_name, options in (("parameter", "what", whats), ("runs", "runs", labels)):
        if len(options) > 1:
            shown = [visible(option, most=60) for option in options]
            bind = alt.binding_select(options=options, labels=shown, name=f"{name} ")
            params.append(alt.param(name=f"chosen_{name}", value=options[0], bind=bind))
            filters.append(f"datum.{field_name} == chosen_{name}")
    angle = -40 if len(places) > 12 else 0
    x = alt.X(
        "place:O", scale=alt.Scale(domain=places), title="layer", axis=alt.Axis(labelAngle=angle, labelOverlap=True)
    )
    methods = [{**row, "span": row["span"] / len(places)} for row in _method_rows(rows, places)]
    order = [*dict.fromkeys(str(row["row"]) for row in methods), *dict.fromkeys(str(row["row"]) for row in rows)]
    y = alt.Y("row:N", sort=order, title=None, axis=alt.Axis(labelLimit=150))
    base = alt.Chart().encode(
        x=x,
        y=y,
        tooltip=[
            alt.Tooltip("what:N", title="parameter"),
            alt.Tooltip("parent:N"),
            alt.Tooltip("place:N", title="layer"),
            alt.Tooltip("part:N"),
            alt.Tooltip("value:N"),
            alt.Tooltip("method:N"),
            alt.Tooltip("group:N"),
        ],
    )
    for test in filters:
        base = base.transform_filter(test)
    scale = alt.Scale(domainMid=0.0, range="diverging") if signed else alt.Scale(zero=True, range="ramp")
    cells = base.mark_rect().encode(color=alt.Color("v:Q", title="value", scale=scale))
    fits = alt.condition(f"width > {_NEEDED * len(places)}", alt.value(1.0), alt.value(0.0))
    texts = [
        base.transform_filter(test).mark_text(fontSize=11, style=style).encode(text="text:N", opacity=fits)
        for test, style in (("!datum.strong", "on-weak"), ("datum.strong", "on-strong"))
    ]
    n_rows = max(len({row["row"] for row in rows if row["what"] == what}) for what in whats)
    layers: list[alt.Chart] = [cells, *texts]
    if methods:
        which = alt.Chart(alt.NamedData("methods"))
        for test in filters:
            which = which.transform_filter(test) if "datum.runs" in test else which
        layers.append(
            which.transform_calculate(short=f"truncate(datum.method, max(2, datum.span * width / {_LETTER}))")
            .mark_text(align="left", fontSize=11, dx=2)
            .encode(
                x=alt.X("place:O", bandPosition=0.0),
                y=y,
                text="short:N",
                tooltip=[alt.Tooltip("method:N"), alt.Tooltip("where:N", title="layers")],
            )
        )
    n_rows += len({row["row"] for row in methods})
    chart = alt.layer(*layers, data=alt.NamedData("rows")).properties(
        width="container", height=max(100, min(360, 26 * n_rows + 20))
    )
    return specification(chart.add_params(*params) if params else chart, rows=rows, methods=methods)


def _order(places: set[str]) -> list[str]:
    layers = sorted((place for place in places if place.isdigit()), key=int)
    return [place for place in (EMBEDDINGS, *layers, ALL, FINAL_NORM, HEAD, OUTSIDE) if place in places]


def _method_rows(rows: Sequence[Mapping[str, Any]], places: Sequence[str]) -> list[dict[str, Any]]:
    """Return which method merges which run of places, by part, where there are several; `span` is in places."""
    if len({row["method"] for row in rows}) < 2:
        return []
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        where = str(row["row"]).partition(" · ")[2]
        found.setdefault((row["runs"], where), {})[row["place"]] = row["method"]
    made: list[dict[str, Any]] = []
    for (runs, where), methods in found.items():
        label = f"{METHOD} · {where}" if where else METHOD
        before: str | None = None
        for place in places:
            method = methods.get(place)
            if method is not None and method == before:
                made[-1]["span"] += 1
                made[-1]["places"].append(place)
            elif method is not None:
                made.append(
                    {"runs": runs, "row": label, "place": place, "span": 1, "method": method, "places": [place]}
                )
            before = method
    return [{**row, "where": _span(row.pop("places"))} for row in made]


def _lead(cells: Sequence[_Cell], seeds: int) -> str:
    """Say from whom most is taken, and where: by the weights, else by whatever each parent has of its own."""
    said = [cell.first for cell in cells]
    methods = _methods(said)
    named = WEIGHT if any(one.parameter == WEIGHT and one.parent for one in said) else None
    own = [cell for cell in cells if cell.first.parent and cell.first.parameter == (named or cell.first.parameter)]
    if not own or named is None or len({cell.first.method for cell in own}) > 1:
        return f"{methods}."
    weights: dict[str, list[float]] = {}
    for cell in own:
        if cell.first.place.isdigit() or cell.first.place == ALL:
            weights.setdefault(cell.first.parent, []).append(cell.mean)
    if not weights:
        return f"{methods}."
    means = {parent: math.fsum(values) / len(values) for parent, values in weights.items()}
    order = sorted(means, key=lambda parent: -means[parent])
    text = ", ".join(f"{parent} {means[parent]:.2f}" for parent in order)
    inner = [cell for cell in own if cell.first.place.isdigit()] or own
    most = max(inner, key=lambda cell: cell.mean)
    where = f"layer {most.first.place}" if most.first.place.isdigit() else most.first.place
    part = f" ({most.first.part})" if most.first.part else ""
    over = "the means over seeds, " if seeds > 1 else ""
    return (
        f"{methods}. Mean weight over the layers, {over}{text}; the largest is {most.mean:.2f} of {most.first.parent} "
        f"in {where}{part}."
    )


def _methods(said: Sequence[Coefficient]) -> str:
    """Return which method merges which layers: "linear in layers 0-1, slerp in 2-3"."""
    found: dict[str, list[str]] = {}
    for one in said:
        places = found.setdefault(one.method, [])
        if one.place not in places:
            places.append(one.place)
    if len(found) == 1:
        return f"Merged by {next(iter(found))}"
    return "Merged by " + ", ".join(f"{method} in {_span(places)}" for method, places in found.items())


def _span(places: Sequence[str]) -> str:
    """Return places in words, with neighbouring layers as one range."""
    layers = sorted(int(place) for place in places if place.isdigit())
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    words = [f"{a}–{b}" if b > a else str(a) for a, b in runs]
    named = [f"layers {', '.join(words)}" if len(layers) > 1 else f"layer {words[0]}"] if words else []
    return " and ".join([*named, *(place for place in _order(set(places)) if not place.isdigit())])


def _table(groups: Sequence[tuple[str, int, Sequence[_Cell]]]) -> Table:
    """Return the numbers with neighbouring layers of equal values as one row."""
    rows: list[list[Any]] = []
    for label, _, cells in groups:
        joined: dict[tuple[Any, ...], list[str]] = {}
        for cell in cells:
            one = cell.first
            key = (one.parameter, one.parent or ALL_PARENTS, one.part or "all", one.method, cell.text)
            joined.setdefault(key, []).append(one.place)
        for (parameter, parent, part, method, value), places in joined.items():
            row = [parameter, parent, _span(places), part, value, method]
            rows.append([label, *row] if len(groups) > 1 else row)
    columns = ["parameter", "parent", "where", "part", "value", "method"]
    return Table(["runs", *columns] if len(groups) > 1 else columns, rows)


def _short(value: float) -> str:
    """Return a number in about four characters."""
    if value == 0.0:
        return "0"
    return f"{value:.2f}" if 0.005 <= abs(value) < 10 else f"{value:.2g}"
