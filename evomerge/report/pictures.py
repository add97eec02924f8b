"""A figure as a picture without a browser, and as rows for other programs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import Any

from evomerge.report.chart import chart_text
from evomerge.report.figure import Figure
from evomerge.report.style import BACKGROUND, picture_config
from evomerge.system.text import visible

SVG, PNG = "svg", "png"
_FORMULA = re.compile(r"[=@\t]|[+-](?![\d.,]+($|[ %]))")
"""How a cell begins that a spreadsheet would compute; signed numbers and what follows them after a space may stand."""

WIDTH = 720
"""Pixels of a chart that would follow the width of a page."""


def picture(figure: Figure, kind: str, theme: str) -> bytes:
    """Return the chart of a figure as a picture on the theme's ground.

    Args:
        figure: one with a chart.
        kind: "svg", or "png" (of twice the pixels).
        theme: "light" or "dark".
    """
    import vl_convert

    spec = chart_text(_sized({key: value for key, value in (figure.chart or {}).items() if key != "$schema"}))
    config = {**picture_config(theme), "background": BACKGROUND[theme], "padding": 16}
    if kind == SVG:
        return str(vl_convert.vegalite_to_svg(spec, config=config, allowed_base_urls=[])).encode()
    return bytes(vl_convert.vegalite_to_png(spec, config=config, scale=2, allowed_base_urls=[]))


def rows_as_csv(figure: Figure) -> str:
    """Return the table of a figure as comma-separated values, a row each, with the names of the columns first."""
    if figure.table is None:
        raise ValueError(f"the figure {figure.key} has no table")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([visible(name) for name in figure.table.columns])
    writer.writerows([_cell(value) for value in row] for row in figure.table.rows)
    return file.getvalue()


def _cell(value: object) -> object:
    """Return a cell that a spreadsheet takes for no formula."""
    if not isinstance(value, str):
        return value
    text = visible(value, lines=True)
    return f"'{text}" if _FORMULA.match(text) else text


def _sized(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification that follows no width."""
    return {**spec, "width": WIDTH} if spec.get("width") == "container" else dict(spec)
