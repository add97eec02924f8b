"""A line for each worker: what it does, for how long, where, with how much memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from evomerge.api import Moment, Works
from evomerge.cli.live.marks import Marks
from evomerge.cli.live.numbers import bytes_text, since
from evomerge.cli.live.rows import flow
from evomerge.system.text import visible


def workers(moment: Moment, width: int, marks: Marks, room: int) -> list[Text]:
    """Return at most so many lines; where there are more workers, those that do something else than most come first."""
    rows = list(moment.workers)
    if room < 1 or not rows:
        return []
    rest: list[Works] = []
    if len(rows) > room:
        common = Counter(one.doing for one in rows)
        # In the order of their numbers among those that do the same, so that lines do not dance.
        order = sorted(range(len(rows)), key=lambda i: (common[rows[i].doing], i))
        shown = sorted(order[: room - 1])
        rows, rest = [rows[i] for i in shown], [rows[i] for i in order[room - 1 :]]
    label = max((len(visible(one.name)) for one in rows), default=0)
    lines = [_line(one, label, width, marks) for one in rows]
    if rest:
        lines.append(Text(_folded(rest, len(rows), marks), "dim"))
    return lines


def _line(one: Works, label: int, width: int, marks: Marks) -> Text:
    what = visible(one.candidate) if one.candidate is not None and one.doing == "busy" else one.doing
    if one.candidate is not None and one.doing == "stopping":
        what = f"stopping {visible(one.candidate)}"
    pieces = [Text(f"{visible(one.name):<{label}}  {what}"), Text(since(one.seconds))]
    if one.device:
        pieces.append(Text(visible(one.device), "dim"))
    if one.memory is not None:
        pieces.append(Text(bytes_text(one.memory), "dim"))
    if one.done is not None:
        pieces.append(Text(f"{one.done} done", "dim"))
    return flow(pieces, width, marks, 1)[0]


def _folded(rest: Sequence[Works], shown: int, marks: Marks) -> str:
    doing = ", ".join(f"{n} {word}" for word, n in sorted(Counter(one.doing for one in rest).items()))
    return f"{marks.more} {len(rest)} {'more ' * bool(shown)}workers: {doing}"
