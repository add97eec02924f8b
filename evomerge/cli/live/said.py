"""The last notes and warnings, a line each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from evomerge.cli.live.marks import Marks
from evomerge.cli.live.rows import cut
from evomerge.system.text import visible


def said(notes: Sequence[str], width: int, marks: Marks, room: int) -> list[Text]:
    """Return the last notes on so many lines, the latest at the end; a long one takes what room the others leave."""
    if room < 1:
        return []
    shown = [visible(note) for note in notes][-room:]
    lines: list[Text] = []
    spare = room - len(shown)
    for text in shown[::-1]:
        own = _wrapped(text, width, marks, 1 + spare)
        spare -= len(own) - 1
        style = "yellow" if text.startswith(("warning", "stopping")) else "dim"
        lines = [*(Text(line, style) for line in own), *lines]
    return lines + [Text()] * (room - len(lines))


def _wrapped(text: str, width: int, marks: Marks, lines: int) -> list[str]:
    found: list[str] = []
    while len(found) < lines - 1 and len(text) > width:
        at = text.rfind(" ", 0, width + 1)
        head = text[: at if at > width // 2 else width]
        found.append(cut(head, width, marks))
        text = "  " + text[len(head) :].lstrip()
    return [*found, cut(text, width, marks)]
