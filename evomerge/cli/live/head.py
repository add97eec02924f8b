"""What is watched, and which of its parts goes on."""

from __future__ import annotations

from rich.text import Text

from evomerge.api import Moment
from evomerge.cli.live.marks import Marks
from evomerge.cli.live.rows import cut, fitted, flow
from evomerge.system.text import duration, visible

_STYLES = {"running": "bold green", "complete": "bold green", "interrupted": "bold yellow", "failed": "bold red"}


def head(moment: Moment, width: int, marks: Marks) -> list[Text]:
    """Return the name of the search with its state, and the phase with its stage."""
    state = moment.state if moment.ended else visible(moment.phase) or "begins"
    state = cut(state, max(width // 2, 8), marks)
    name = cut(visible(moment.name), max(width - len(state) - 2, 1), marks)
    line = Text(name, "bold") + Text("  ") + Text(state, _STYLES.get(moment.state, ""))
    lines = [fitted(line, width, marks)]
    if moment.doubt is not None:
        lines.append(fitted(Text(visible(moment.doubt), "yellow"), width, marks))
    elif not moment.ended and moment.written is not None and moment.at - moment.written > 3600.0:
        quiet = f"nothing was written for {duration(moment.at - moment.written)}"
        lines.append(fitted(Text(quiet, "yellow"), width, marks))
    return lines


def parts(moment: Moment, width: int, marks: Marks) -> list[Text]:
    """Return the parts of the search, each with how far it has come."""
    pieces = []
    for part in moment.parts:
        running = part is moment.part and not moment.ended
        over = part.total is not None and part.done >= part.total and not running
        of = f"/{part.total}" if part.total is not None else ""
        nothing = not part.done and part.total is None
        text = f"{part.name} {marks.none if nothing else f'{part.done}{of}'}" + (f" {marks.done}" if over else "")
        pieces.append(Text(text, "bold" if running else "dim"))
    lines = 1 if width >= 72 else 2
    found = flow(pieces, width, marks, lines)
    return found + [Text()] * (lines - len(found))
