"""The figures of a page, in its order: a figure is one file with a function `draw`.

It takes the runs (`RunData`), one or several, and returns a `Figure`, or None where there is nothing to show of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence

from evomerge.report.data import RunData
from evomerge.report.figure import Figure

SECTIONS: dict[str, tuple[str, ...]] = {
    # Section of the page: modules of this package, in order.
    "What was found": (),
    "How the search went": ("progress",),
    "The merge": (),
    "Goals": (),
    "Answers": (),
    "What it cost": (),
    "To do it again": (),
}


def figures_of(runs: Sequence[RunData], names: Sequence[str] = ()) -> Iterator[tuple[str, Figure]]:
    """Yield each figure of some runs with its section.

    Args:
        runs: one, or several that are overlaid.
        names: modules of figures; none: all.
    """
    for section, modules in SECTIONS.items():
        for name in modules:
            if not names or name in names:
                figure = importlib.import_module(f"evomerge.report.figures.{name}").draw(runs)
                if figure is not None:
                    yield section, figure
