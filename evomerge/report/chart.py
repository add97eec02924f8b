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


def specification(chart: alt.Chart | alt.LayerChart, **data: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the Vega-Lite specification of a chart with its data.

    Args:
        chart: its data is named: `alt.NamedData("rows")`.
        data: the rows by that name; plain values, with None where there is none.
    """
    with debug_mode(False):
        spec: dict[str, Any] = chart.to_dict(validate=False)
    return {**spec, "datasets": {name: list(rows) for name, rows in data.items()}}
