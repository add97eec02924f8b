"""What can be had of one goal for how much of another: all candidates by two objectives, or an objective and a measure.

Several runs: the candidates of each that no other of its run dominates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from evomerge.analysis.choice import objective_scores
from evomerge.analysis.front import front
from evomerge.record import Record, Split
from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Cell, Figure, Table
from evomerge.report.groups import labels_of
from evomerge.report.numbers import ScoreStyle, objective_styles, seen
from evomerge.report.searched import named
from evomerge.report.style import BEST, model_names

KEY = "front"
_HEIGHT, _MOST, _AXES = 360, 1200, 8
"""Pixels, candidates and axes at most."""
_X, _Y, _ITEMS = "front_x", "front_y", "front_items"

DOMINATED, UNDOMINATED, CHOSEN, BASELINE, BROKEN = (
    "candidate",
    "not dominated",
    "chosen",
    "parent or average",
    "breaks a limit",
)
_SHAPES = {DOMINATED: "circle", UNDOMINATED: "triangle-up", CHOSEN: "diamond", BASELINE: "square", BROKEN: "cross"}


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the trade-offs; None for a single objective without measures of its own."""
    axes = axes_of(runs[0])
    if len(axes) < 2 or not any(record.result for run in runs for record in run.records):
        return None
    if len(runs) > 1:
        return _of_several(runs, axes)
    run = runs[0]
    best = front(run.records)
    shown = {record.number for record in (*best, *run.chosen)}
    step = -(-len(run.records) // _MOST)
    records = [one for place, one in enumerate(run.records) if place % step == 0 or one.number in shown]
    rows = [*_candidates(run, axes, records, best), *_baselines(run, axes)]
    note = "Triangles: no other candidate is at least as good in every objective and better in one."
    note += f" Of {len(run.records):,} candidates every {step}th is drawn, and each of those." if step > 1 else ""
    chart = _chart(run, axes, rows, best)
    return Figure(KEY, _title(run), _lead(run, best), chart=chart, table=_table(run), note=note)


def axes_of(run: RunData) -> dict[str, ScoreStyle]:
    """Return what candidates can be placed by: the objectives, then measures that are no objective; with their style.

    With one objective of one entry the measure of that entry says the same, and is left out.
    """
    objectives = run.objectives
    if objectives is None:
        return {}
    axes = objective_styles(run)
    own = set(axes)
    counting = [term for term, spec in zip(objectives.term_names, objectives.specs, strict=True) if spec.weight > 0.0]
    same = set(counting) if len(counting) == len(axes) else set()
    for record in run.records:
        for name, value in (record.result.measures if record.result else {}).items():
            if name not in same and name not in axes and seen(value) is not None:
                axes[name] = ScoreStyle(share=False)
    places = [_places(run, record) for record in run.records if record.result]
    varied = {
        name: style
        for name, style in axes.items()
        if name in own or len({place.get(name) for place in places} - {None}) > 1
    }
    return dict(list(varied.items())[:_AXES])


def _places(run: RunData, record: Record) -> dict[str, float | None]:
    """Return where a record stands on the search items, in the directions that the user measures."""
    if record.result is None or run.objectives is None:
        return {}
    signs = [-1.0 if one.direction == "minimize" else 1.0 for one in run.objectives.objectives]
    values = zip(run.objectives.objectives, signs, record.result.objectives, strict=True)
    objectives = {one.name: seen(sign * value) for one, sign, value in values}
    return {**{name: seen(value) for name, value in record.result.measures.items()}, **objectives}


def _elsewhere(run: RunData, record: Record) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return split to objective to score, of those on which nothing was evolved."""
    if run.objectives is None or not set(record.scores or {}) - {Split.SEARCH}:
        return {}
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, by_split in objective_scores(run.run, run.objectives, record).items():
        for split, one in by_split.items():
            if one is not None:
                found.setdefault(split, {})[name] = one
    return found


def _row(run: RunData, axes: Mapping[str, ScoreStyle], record: Record, model: str, kind: str) -> dict[str, Any]:
    search, further = _places(run, record), _elsewhere(run, record)
    at: dict[str, Any] = {str(Split.SEARCH): {name: search[name] for name in axes if search.get(name) is not None}}
    at |= {split: {name: seen(one["mean"]) for name, one in own.items()} for split, own in further.items()}
    texts = {}
    for place, (name, style) in enumerate(axes.items()):
        value = search.get(name)
        said = [] if value is None else [style.mean(value)]
        said += [f"{split} {style.score(own[name])}" for split, own in further.items() if name in own]
        texts[f"text{place}"] = ", ".join(said) or "–"
    return {"model": model, "name": record.name, "kind": kind, "at": at, **texts}


def _candidates(
    run: RunData, axes: Mapping[str, ScoreStyle], records: Sequence[Record], best: Sequence[Record]
) -> Iterator[dict[str, Any]]:
    undominated = {record.number for record in best}
    chosen = {record.number for record in run.chosen}
    for record in records:
        if record.result is None or record.same_as is not None:
            continue
        kind = UNDOMINATED if record.number in undominated else DOMINATED
        kind = BROKEN if record.result.violation > 0.0 else kind
        yield _row(run, axes, record, BEST, CHOSEN if record.number in chosen else kind)


def _baselines(run: RunData, axes: Mapping[str, ScoreStyle]) -> Iterator[dict[str, Any]]:
    for record in run.baselines:
        if record.result is not None:
            yield _row(run, axes, record, record.name, BASELINE)


def _chart(
    run: RunData, axes: Mapping[str, ScoreStyle], rows: Sequence[dict[str, Any]], best: Sequence[Record]
) -> dict[str, Any]:
    kinds = [kind for kind in _SHAPES if any(row["kind"] == kind for row in rows)]
    models = [name for name in dict.fromkeys(row["model"] for row in rows) if name != BEST]  # shapes tell the merges
    legend = alt.Legend(title=None, values=models, symbolType="circle", symbolOpacity=1)
    colour = alt.Color("model:N", scale=alt.Scale(domain=list(model_names(run))), legend=legend)
    shapes = alt.Scale(domain=kinds, range=[_SHAPES[kind] for kind in kinds])
    tip = [alt.Tooltip("model:N"), alt.Tooltip("name:N", title="candidate"), alt.Tooltip("kind:N")]
    tip += [alt.Tooltip(f"text{place}:N", title=name) for place, name in enumerate(axes)]
    splits = [str(split) for split in Split if any(str(split) in row["at"] for row in rows)]
    base = _base("rows")
    faint = base.transform_filter(f"datum.kind == '{DOMINATED}'").mark_point(filled=True, size=30, opacity=0.4)
    strong = base.transform_filter(f"datum.kind != '{DOMINATED}'").mark_point(filled=True, size=80, opacity=0.9)
    how: dict[str, Any] = {**_axes(axes), "color": colour, "tooltip": tip}
    how["shape"] = alt.Shape("kind:N", scale=shapes, legend=alt.Legend(title=None, symbolOpacity=1))
    layers: list[alt.Chart] = []
    if len(axes) == 2:
        joined = base.transform_filter(f"datum.joined && {_ITEMS} == '{Split.SEARCH}'")
        line = joined.mark_line(strokeDash=[4, 3], strokeWidth=1, tooltip=False)
        layers.append(line.encode(**_axes(axes), color=colour))
    layers += [faint.encode(**how), strong.encode(**how)]
    joins = {record.name for record in best}
    values = [{**row, "joined": row["name"] in joins and row["kind"] != BASELINE} for row in rows]
    return _choosable(layers, list(axes), splits, {"rows": values})


def _base(name: str) -> alt.Chart:
    places = {"x": f"datum.at[{_ITEMS}][{_X}]", "y": f"datum.at[{_ITEMS}][{_Y}]"}
    known = alt.Chart(alt.NamedData(name)).transform_filter(f"isValid(datum.at[{_ITEMS}])")
    return known.transform_calculate(**places).transform_filter("isValid(datum.x) && isValid(datum.y)")


def _axes(axes: Mapping[str, ScoreStyle]) -> dict[str, Any]:
    """Return the encodings of the two axes; in per cent where all that can be chosen are shares."""
    share = all(style.share for style in axes.values())
    axis = alt.Axis(format="%" if share else "~g")
    names = list(axes)
    return {
        "x": alt.X("x:Q", title=names[0], axis=axis, scale=alt.Scale(zero=False)),
        "y": alt.Y("y:Q", title=names[1], axis=axis, scale=alt.Scale(zero=False)),
    }


def _choosable(
    layers: Sequence[alt.Chart], names: Sequence[str], splits: Sequence[str], data: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the specification with the means to choose the axes, where there are more than two, and the items."""
    made = alt.layer(*layers, width="container", height=_HEIGHT)
    for parameter, name, word in ((_X, names[0], "across: "), (_Y, names[1], "up: ")):
        bind = alt.binding_select(options=list(names), name=word) if len(names) > 2 else alt.Undefined
        made = made.add_params(alt.param(name=parameter, value=name, bind=bind))
    radio = alt.binding_radio(options=list(splits), name="items ") if len(splits) > 1 else alt.Undefined
    made = made.add_params(alt.param(name=_ITEMS, value=splits[0], bind=radio))
    found = specification(made, **data)
    for layer in found["layer"]:
        for channel, parameter in (("x", _X), ("y", _Y)):
            layer["encoding"][channel]["title"] = {"signal": parameter}  # known to Vega-Lite, not to its schema
    return found


def _title(run: RunData) -> str:
    several = run.objectives is not None and len(run.objectives.objectives) > 1
    return "Trade-offs between the objectives" if several else "Score against other measures"


def _lead(run: RunData, best: Sequence[Record]) -> str:
    scored = [record for record in run.records if record.result is not None]
    feasible = sum(record.result is not None and record.result.violation == 0.0 for record in scored)
    n = len({record.result.objectives for record in best if record.result is not None})
    several = run.objectives is not None and len(run.objectives.objectives) > 1
    said = []
    if several and feasible:
        said.append(
            f"{n} of {len(scored):,} scored candidates {'is' if n == 1 else 'are'} a trade-off of "
            f"{'its' if n == 1 else 'their'} own on the search items: no other one is at least as good in every "
            "objective and better in one"
        )
    if feasible < len(scored):
        said.append(f"{len(scored) - feasible:,} of {len(scored):,} break a limit")
    if several:
        said += [_ahead(run)] if run.chosen else []
    elif run.best is not None:
        said.append(f"The best by its score is {run.best.name}; the chart shows what else differs between candidates")
    return ". ".join(said) + "."


def _ahead(run: RunData) -> str:
    """Return how many of the chosen merges a parent dominates on the search items."""
    results = [record.result for record in run.baselines if record.result is not None]
    behind = [r for r in run.chosen if r.result and any(one.dominates(r.result) for one in results)]
    chosen = f"{len(run.chosen)} {'was' if len(run.chosen) == 1 else 'were'} chosen"
    if not results:
        return chosen
    if behind:
        return f"{chosen}, of which a parent or the average is better in every respect than {len(behind)}"
    return f"{chosen}, and no parent, nor the average, is at least as good in every objective"


def _table(run: RunData) -> Table | None:
    """Return the chosen merges and the baselines, objective by objective, with the skills that were lost."""
    status, styles = run.status, objective_styles(run)
    choice = status["choice"]
    if choice is None or run.objectives is None:
        return None
    objectives = status["objectives"]
    rows: list[list[Cell]] = []
    marked = set()
    best = choice["records"]
    split = Split.TEST if any(o[Split.TEST] for row in best for o in row["objectives"].values()) else Split.VALIDATION
    for row in (*best, *status["baselines"]):
        scores = [row["objectives"].get(one["name"], {}).get(split) for one in objectives]
        cells = [None if s is None else styles[o["name"]].score(s) for o, s in zip(objectives, scores, strict=True)]
        lost = [str(one["task"]) for one in row.get("skills", ()) if one["lost"]]
        if lost:
            marked.add(len(rows))
        chosen = "skills" in row
        rows.append([row["name"], *cells, ", ".join(lost) or ("none" if chosen else None)])
    heads = [f"{one['name']}{' (less is better)' if one['direction'] == 'minimize' else ''}" for one in objectives]
    return Table(["model", *(f"{head}, {split}" for head in heads), "lost skills"], rows, frozenset(marked))


# ---- several runs ----


def _of_several(runs: Sequence[RunData], axes: Mapping[str, ScoreStyle]) -> Figure | None:
    objectives = list(objective_styles(runs[0]))
    same = [run for run in runs if list(objective_styles(run)) == objectives]
    if len(objectives) < 2 or len(same) < 2:
        return None
    axes = {name: axes[name] for name in objectives[:_AXES]}
    labels = dict(zip(runs, labels_of(runs), strict=True))
    rows, told = [], []
    for run in same:
        best = [record for record in front(run.records) if record.result and record.result.violation == 0.0]
        rows += [{**_row(run, axes, one, BEST, UNDOMINATED), "run": labels[run]} for one in best]
        told.append(f"{len(best)} of {named([labels[run]])}")
    if not rows:
        return None
    tip = [alt.Tooltip("run:N"), alt.Tooltip("name:N", title="candidate")]
    tip += [alt.Tooltip(f"text{place}:N", title=name) for place, name in enumerate(axes)]
    shown = list(dict.fromkeys(row["run"] for row in rows))
    colour = alt.Color("run:N", scale=alt.Scale(domain=shown), legend=alt.Legend(title=None, labelLimit=320))
    base = _base("rows")
    layers = [base.mark_point(filled=True, size=60).encode(**_axes(axes), color=colour, tooltip=tip)]
    if len(axes) == 2:
        line = base.mark_line(strokeDash=[4, 3], strokeWidth=1, tooltip=False)
        layers.insert(0, line.encode(**_axes(axes), color=colour))
    chart = _choosable(layers, list(axes), [str(Split.SEARCH)], {"rows": rows})
    lead = f"Candidates that no other one of their run dominates, on the search items: {', '.join(told)}."
    left_out = len(runs) - len(same)
    note = f"Runs with other objectives are left out: {left_out}." if left_out else ""
    return Figure(KEY, "Trade-offs between the objectives", lead, chart=chart, note=note)
