"""What a figure is: a title, a sentence that says what it shows, and a chart, a table or a piece of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from evomerge.report.data import RunData

Draw: TypeAlias = "Callable[[Sequence[RunData]], Figure | None]"
"""Draws a figure of one run, or of several that are overlaid; None: there is nothing to show of these."""

Cell: TypeAlias = "str | int | float | None"
"""What stands in a cell of a table; None: nothing is known."""


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        columns: what stands above each column.
        rows: the cells; numbers are set to the right. Texts may be anybody's: the page shows them as they are.
        marked: row numbers that are to be looked at (a lost skill, say).
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Figure:
    """One figure of a page. All texts are plain, and may hold anybody's words; the page escapes them.

    Attributes:
        key: its name in links and files: lower case, digits and hyphens.
        title: what stands above it.
        lead: one or two sentences that say what it shows, with the numbers that matter, for who reads nothing else.
        chart: a Vega-Lite specification (`altair.Chart.to_dict()`); sizes and colours come from the page.
        table: the numbers of the chart, or what is better read than drawn.
        template: a template in `report/templates/figures/` that shows `data`, for what is neither chart nor table.
        data: what that template shows.
        note: what to bear in mind, in small print.
    """

    key: str
    title: str
    lead: str
    chart: Mapping[str, Any] | None = None
    table: Table | None = None
    template: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
