"""From an altair chart to its specification without the time that altair spends on data and on checking itself.

Altair copies each row of its data several times and checks each piece of a chart against Vega-Lite's schema: half a
second for a chart of 400 candidates. So data is named in a chart and put in afterwards, and the schema is checked by
tests alone::

    chart = alt.Chart(alt.NamedData("rows")).mark_point().encode(x="n:Q")
    specification(chart, rows=[{"n": 1}, {"n": 2}])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
from altair.utils.schemapi import debug_mode

from evomerge.system.text import json_text, visible


def specification(chart: alt.Chart | alt.LayerChart, **data: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the Vega-Lite specification of a chart with its data.

    Layers that would show nothing are left out: Vega warns of scales that nothing stands on.

    Args:
        chart: its data is named: `alt.NamedData("rows")`.
        data: the rows by that name; plain values, with None where there is none.
    """
    with debug_mode(False):
        spec: dict[str, Any] = chart.to_dict(validate=False)
    empty = {name for name, rows in data.items() if not rows}
    chosen_in = {view for one in spec.get("params", ()) for view in one.get("views", ())}
    if "layer" in spec:
        spec["layer"] = _with_data(spec["layer"], empty, chosen_in) or spec["layer"]
    return {**spec, "datasets": {name: list(rows) for name, rows in data.items()}}


def _with_data(layers: Sequence[dict[str, Any]], empty: set[str], chosen_in: set[str]) -> list[dict[str, Any]]:
    """Return the layers but for those of empty data in which nothing is chosen."""
    found = []
    for layer in layers:
        if (layer.get("data") or {}).get("name") in empty and layer.get("name") not in chosen_in:
            continue
        if "layer" in layer:
            inner = _with_data(layer["layer"], empty, chosen_in)
            if not inner:
                continue
            layer = {**layer, "layer": inner}
        found.append(layer)
    return found


def chart_text(spec: Mapping[str, Any]) -> str:
    """Return a specification as JSON in which every text can be seen."""
    text = json_text(spec)
    if r"\u" in text or visible(text, lines=True) != text:  # seldom, and a walk through all data takes a while
        text = json_text(_visible(spec))
    return text


def _visible(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _visible(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_visible(value) for value in data]
    return visible(data, lines=True) if isinstance(data, str) else data
