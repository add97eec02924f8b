"""Which layer of which parent comes next in the best merge: the picture of a layer path."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from evomerge.recipe import layer_path
from evomerge.recipe.layer_path import Step
from evomerge.report.data import RunData
from evomerge.report.figure import Figure, Table
from evomerge.report.path_chart import LEGEND, ends_words, path_chart
from evomerge.report.path_text import describe_source, path_summary
from evomerge.report.style import model_names
from evomerge.system.text import with_and


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the layer path of one run's best candidate."""
    recipe = runs[0].best_recipe if len(runs) == 1 else None
    if recipe is None or not recipe.path:
        return None
    sources = "; ".join(f"{parent.name} is {describe_source(parent.source)}" for parent in recipe.parents)
    return Figure(
        "layer-path",
        "The layer path",
        f"{path_summary(recipe)}. {ends_words(recipe)}. {_turns(recipe.path)}",
        chart=path_chart(recipe, model_names(runs[0])),
        table=Table(("steps", "parent", "layers", "scale of the first input"), list(_rows(recipe.path))),
        note=f"{LEGEND}; ×, + and – are scales of a step's input. Here {sources}.",
    )


def _turns(path: Sequence[Step]) -> str:
    """Say how often the path changes the parent, goes back and skips layers."""
    pairs = list(itertools.pairwise(path))
    changes = sum(a.parent != b.parent for a, b in pairs)
    back = sum(b.layer <= a.layer for a, b in pairs)
    skipped = sum(max(0, b.layer - a.layer - 1) for a, b in pairs)
    said = [
        f"changes the parent {_times(changes)}" if changes else "",
        f"goes back or stays at a depth {_times(back)}" if back else "",
        f"skips {skipped} layer{'' if skipped == 1 else 's'}" if skipped else "",
    ]
    found = list(filter(None, said))
    if not found:
        return "It takes the layers of one model in their order."
    return f"It {with_and(found)}."


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _rows(path: Sequence[Step]) -> list[list[str | float]]:
    rows: list[list[str | float]] = []
    at = 1
    for parent, start, stop, scale in layer_path.runs(path):
        last = at + stop - start - 1
        layers = str(start) if stop == start + 1 else f"{start}–{stop - 1}"
        rows.append([str(at) if last == at else f"{at}–{last}", parent, layers, scale])
        at = last + 1
    return rows
