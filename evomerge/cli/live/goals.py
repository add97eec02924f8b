"""Several objectives: the best value of each, and how much the front holds."""

from __future__ import annotations

from rich.text import Text

from evomerge.api import Moment
from evomerge.cli.live.marks import Marks
from evomerge.cli.live.numbers import value_text
from evomerge.cli.live.rows import columns, fitted
from evomerge.system.text import visible


def goals(moment: Moment, width: int, marks: Marks, room: int) -> list[Text]:
    """Return the front in a line, then a table of the objectives, on at most so many lines."""
    if not moment.goals or room < 1:
        return []
    volume = "" if moment.hypervolume is None else f", hypervolume {moment.hypervolume:.4g}"
    merges = f"{moment.front} merge{'s' * (moment.front != 1)}"
    lines = [fitted(Text(f"front of {merges}{volume}"), width, marks)]
    rows = [
        [
            Text(visible(one.name) + (" (less is better)" if one.direction == "minimize" else "")),
            Text(value_text(one.best, marks.none)),
            Text(value_text(one.parent, marks.none)),
        ]
        for one in moment.goals[: max(room - 2, 0)]
    ]
    if rows:
        lines += columns(["objective", "best of front", "best parent"], rows, width, marks)
    return lines
