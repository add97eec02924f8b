"""The figures of a page, in its order: a figure is one file with a function `draw`.

It takes the runs (`RunData`), one or several, and returns a `Figure`, or None where there is nothing to show of them.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from altair.utils.schemapi import debug_mode

from evomerge.report.data import RunData
from evomerge.report.figure import Draw, Figure
from evomerge.system.text import error_text

log = logging.getLogger(__name__)

SECTIONS: dict[str, tuple[str, ...]] = {
    # Section of the page: modules of this package, in order.
    "What was found": ("summary", "runs", "scores", "scores_over_seeds", "scores_in_units"),
    "Trade-offs": ("front", "hypervolume", "archive"),
    "The merge": ("recipe", "layer_path", "coefficients", "kinship"),
    "How the search went": (
        "progress",
        "finalists",
        "convergence",
        "gene_course",
        "parallel_coordinates",
        "importance",
        "lineage",
        "failures",
    ),
    "Answers": ("answers", "responses", "difficulty", "estimates", "validated", "degeneration", "degeneration_course"),
    "What it cost": ("time",),
    "To do it again": ("configuration", "reproduce"),
}


@dataclass(frozen=True)
class Problem:
    """A figure that could not be drawn.

    Attributes:
        key: the name of its module, with hyphens.
        error: what went wrong.
    """

    key: str
    error: str


def figures_of(
    runs: Sequence[RunData], names: Sequence[str] = (), *, strict: bool = False
) -> Iterator[tuple[str, Figure | Problem]]:
    """Yield each figure of some runs with its section; of one that cannot be drawn, what went wrong.

    Args:
        runs: one, or several that are overlaid.
        names: modules of figures; none: all.
        strict: whether such an error is raised.
    """
    for section, modules in SECTIONS.items():
        for name in modules:
            if not names or name in names:
                figure = _drawn(name, runs, strict)
                if figure is not None:
                    yield section, figure


def _drawn(name: str, runs: Sequence[RunData], strict: bool) -> Figure | Problem | None:
    try:
        draw: Draw = importlib.import_module(f"evomerge.report.figures.{name}").draw
        with debug_mode(False):  # checking each piece takes most of the time, so tests do it: see `report/chart.py`
            return draw(runs)
    except Exception as error:  # one figure is not worth the page
        if strict:
            raise
        log.info("the figure %s cannot be drawn", name, exc_info=True)
        return Problem(name.replace("_", "-"), error_text(error, name=True))
