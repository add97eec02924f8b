"""What every chart of a report must keep."""

import json
from collections.abc import Iterator
from typing import Any

import altair as alt
import vl_convert

from evomerge.report.figure import Figure
from evomerge.report.style import DARK, LIGHT, SERIES

MOST_BYTES = 300_000


def check_chart(figure: Figure) -> None:
    """A chart is valid Vega-Lite, can be drawn, follows the width, names no colour, and is small."""
    assert figure.chart is not None
    spec = dict(figure.chart)
    text = json.dumps(spec, allow_nan=False)
    assert len(text) < MOST_BYTES
    known = without_signals(spec)
    alt.LayerChart.from_dict(known) if "layer" in spec else alt.Chart.from_dict(known)  # validates
    assert vl_convert.vegalite_to_vega(json.dumps({key: value for key, value in spec.items() if key != "$schema"}))
    assert spec["width"] == "container" and 100 <= spec["height"] <= 360
    bare = json.dumps({key: value for key, value in spec.items() if key not in ("datasets", "data")})
    assert not any(colour in bare for theme in (LIGHT, DARK) for colour in SERIES[theme])
    assert '"scheme"' not in bare


def without_signals(spec: Any) -> Any:
    """Return a specification with a word for each title that follows a parameter: the schema does not know of them."""
    if isinstance(spec, dict):
        return {
            key: "title" if key == "title" and isinstance(value, dict) and "signal" in value else without_signals(value)
            for key, value in spec.items()
        }
    return [without_signals(value) for value in spec] if isinstance(spec, list) else spec


def fields(spec: Any) -> Iterator[str]:
    """Yield the names of the fields that a specification encodes."""
    if isinstance(spec, dict):
        for key, value in spec.items():
            if key == "field" and isinstance(value, str):
                yield value
            elif key not in ("datasets", "data"):
                yield from fields(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from fields(value)
