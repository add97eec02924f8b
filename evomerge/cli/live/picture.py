"""The whole view of a moment, as many lines as there is room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.text import Text

from evomerge.api import Moment
from evomerge.cli.live.best import best
from evomerge.cli.live.budget import budget, pace
from evomerge.cli.live.goals import goals
from evomerge.cli.live.head import head, parts
from evomerge.cli.live.marks import Marks
from evomerge.cli.live.rows import fitted
from evomerge.cli.live.said import said
from evomerge.cli.live.tasks import tasks
from evomerge.cli.live.workers import workers
from evomerge.system.text import duration

NOTES = 3
"""So many lines are for notes where there is room."""

_FOLDS = (("gap", 0), ("workers", 4), ("tasks", 7), ("goals", 5), ("workers", 2), ("notes", 1), ("tasks", 4),
          ("goals", 1), ("workers", 1), ("tasks", 0), ("workers", 0), ("goals", 0), ("notes", 0))  # fmt: skip
"""What gives way where the terminal is low, in this order, and how many lines of it stay."""

Block = Callable[[int], list[Text]]


def picture(moment: Moment, notes: Sequence[str], width: int, height: int, marks: Marks) -> list[Text]:
    """Return the lines of the view; as long as nothing but numbers changes, there are as many of them.

    Args:
        moment: what is shown.
        notes: the last notes and warnings, the oldest first.
        width: of the terminal, in columns; no line is longer.
        height: the most lines.
        marks: the signs of the terminal.
    """
    top = [*head(moment, width, marks), *budget(moment, width, marks), *pace(moment, width, marks)]
    top += [*parts(moment, width, marks), *best(moment, width, marks)]
    blocks: dict[str, Block] = {
        "goals": lambda room: goals(moment, width, marks, room),
        "tasks": lambda room: tasks(moment, width, marks, room),
        "workers": lambda room: workers(moment, width, marks, room),
        "notes": lambda room: said(notes, width, marks, room),
    }
    rooms = {
        "goals": 2 + len(moment.goals) if moment.goals else 0,
        "tasks": 1 + len(moment.tasks) if moment.tasks else 0,
        "workers": len(moment.workers),
        "notes": NOTES,
        "gap": 1,
    }
    for name, least in _FOLDS:
        over = _height(top, rooms) - height
        if over <= 0:
            break
        rooms[name] = min(rooms[name], max(least, rooms[name] - over)) if name != "gap" else 0
    lines = list(top)
    for name, block in blocks.items():
        found = block(rooms[name])
        lines += [Text()] * (rooms["gap"] if found else 0) + found
    return [fitted(line, width, marks) for line in lines[:height]]


def last_picture(moment: Moment, width: int, marks: Marks) -> list[Text]:
    """Return the few lines that stay of a view when it ends."""
    seconds = next((one.spent for one in moment.limits if one.key == "seconds"), None)
    time = "" if seconds is None else f" in {duration(seconds)}"
    n = moment.candidates
    counts = f"{n} candidate{'s' * (n != 1)}{time}, {moment.failed} failed, {moment.repeated} repeated"
    if moment.per_minute:
        counts += f", {moment.per_minute:.3g} a minute"
    lines = [*head(moment, width, marks), Text(counts), *best(moment, width, marks)]
    return [fitted(line, width, marks) for line in lines]


def _height(top: Sequence[Text], rooms: dict[str, int]) -> int:
    shown = [n for name, n in rooms.items() if name != "gap" and n > 0]
    return len(top) + sum(shown) + rooms["gap"] * len(shown)
