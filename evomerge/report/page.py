"""The page of a report: one HTML file that holds all it needs, and the pieces of it that the dashboard shows, too.

Every text that is put in is shown as text: templates escape it, and what cannot be seen stands as its escape
(`system.text.visible`). A policy in the page's head lets no script run but those that are written here.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from evomerge import __version__
from evomerge.report.assets import chart_library, page_script, style_sheet
from evomerge.report.chart import chart_text
from evomerge.report.data import RunData
from evomerge.report.figure import Figure, Table
from evomerge.report.figures import Problem, figures_of
from evomerge.report.groups import labels_of
from evomerge.store.status import COMPLETE
from evomerge.system.text import error_text, visible

log = logging.getLogger(__name__)

AUTO = "auto"
"""The theme that the reader's system asks for."""

GENERATOR = "evomerge report"
"""What the head of each report says of who made it, by which an earlier one is known."""

_NUMBER = re.compile(r"[+\-−±]?\d[\d.,]*( ?[%a-zA-Zµ]{1,3})?( \[.*\])?|[–—]|")


@dataclass(frozen=True)
class PageSection:
    """A section of a page.

    Attributes:
        title: what stands above it.
        figures: its figures, and the problems with those that could not be drawn.
    """

    title: str
    figures: Sequence[Figure | Problem]

    @property
    def key(self) -> str:
        """Its name in links."""
        return "section-" + re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def sections_of(runs: Sequence[RunData], names: Sequence[str] = (), *, strict: bool = False) -> list[PageSection]:
    """Return the sections of a page about some runs, without those that have nothing to show.

    Args:
        runs: one, or several that are overlaid.
        names: modules of figures; none: all.
        strict: whether the error of a figure is raised, rather than shown in its place.
    """
    found: dict[str, list[Figure | Problem]] = {}
    for section, figure in figures_of(runs, names, strict=strict):
        found.setdefault(section, []).append(figure)
    return [PageSection(title, figures) for title, figures in found.items()]


def render_page(
    runs: Sequence[RunData],
    sections: Sequence[PageSection],
    *,
    theme: str = AUTO,
    left_out: Sequence[str] = (),
    strict: bool = False,
    now: datetime | None = None,
) -> str:
    """Return the report as one HTML file.

    Args:
        runs: what it is about.
        sections: what `sections_of` returns of them.
        theme: "light", "dark" or "auto".
        left_out: sentences about runs that could not be read.
        strict: whether the error of a figure is raised, rather than shown in its place.
        now: when it was made; None: now.
    """
    scripts = [Markup(chart_library()), Markup(page_script())]
    return render(
        "page.html",
        runs=list(zip(runs, labels_of(runs), strict=True)),
        title=title_of(runs),
        sections=sections,
        theme=theme,
        left_out=left_out,
        strict=strict,
        made=(now or datetime.now().astimezone()).strftime("%Y-%m-%d %H:%M %Z").strip(),
        style=Markup(style_sheet()),
        scripts=scripts,
        policy=content_policy([str(script) for script in scripts]),
    )


def title_of(runs: Sequence[RunData]) -> str:
    """Return what a page about some runs is called: their names, and how many they are."""
    names = " · ".join(dict.fromkeys(run.label for run in runs))
    return names if len(runs) == 1 else f"{names}: {len(runs)} runs"


def render_figure(figure: Figure | Problem, *, strict: bool = False) -> Markup:
    """Return the HTML of one figure; where that fails, of a notice that says so.

    Args:
        figure: the figure.
        strict: whether the error is raised instead.
    """
    try:
        return render("figure.html", figure=figure)
    except Exception as error:  # one figure is not worth the page
        if strict:
            raise
        log.info("the figure %s cannot be shown", figure.key, exc_info=True)
        return render("figure.html", figure=Problem(figure.key, error_text(error, name=True)))


def content_policy(scripts: Sequence[str]) -> str:
    """Return the content security policy of a page with these scripts in it, and no others."""
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src {hashes}; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def render(template: str, **values: Any) -> Markup:
    """Return what a template of `report/templates/` makes of some values."""
    return Markup(environment().get_template(template).render(values))


@cache
def environment() -> Environment:
    """Return the environment of the templates; the dashboard adds its own to its loader."""
    made = Environment(
        loader=PackageLoader("evomerge.report", "templates"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"version": __version__, "generator": GENERATOR, "complete": COMPLETE, "figure_html": render_figure}
    made.filters |= {
        "chart": _chart,
        "chart_height": _chart_height,
        "inline": _inline,
        "number": _number,
        "to_the_right": _to_the_right,
    }
    made.tests |= {"problem": lambda value: isinstance(value, Problem)}
    return made


def _shown(value: Any) -> Any:
    """Return what stands in a page for a value of a template."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) else visible(value, lines=True)


def _chart(figure: Figure) -> Markup:
    """Return the specification of a figure's chart as JSON that ends no script."""
    spec = {key: value for key, value in (figure.chart or {}).items() if key != "$schema"}
    spec["description"] = f"{figure.title}. {figure.lead}"
    return Markup(chart_text(spec).replace("<", r"\u003c"))


def _inline(text: str) -> Markup:
    """Return plain text whose `commands` and names of keys stand as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(_shown(text)))))


def _chart_height(figure: Figure) -> int:
    """Return about how high a chart will be, in pixels, so that the page does not move when it is drawn."""
    height = (figure.chart or {}).get("height")
    return int(height) + 70 if isinstance(height, int | float) else 280


def _number(value: object) -> str:
    """Return a cell of a table: a number with four digits that count, anything else as it is."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _to_the_right(table: Table) -> list[bool]:
    """Return of each column whether it holds numbers alone."""
    return [all(_is_number(row[at]) for row in table.rows) for at in range(len(table.columns))]


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float) or _NUMBER.fullmatch(str(value)) is not None


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
