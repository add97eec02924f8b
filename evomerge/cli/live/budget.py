"""The budget: a bar for each limit, then the pace."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from evomerge.api import Limit, Moment
from evomerge.cli.live.marks import Marks
from evomerge.cli.live.numbers import count, left_text, since
from evomerge.cli.live.rows import fitted, flow
from evomerge.system.text import duration

_WIDEST = 60


def budget(moment: Moment, width: int, marks: Marks) -> list[Text]:
    """Return a bar for each limit of the budget."""
    shown = [("time" if one.key == "seconds" else one.key, one, _amount(one)) for one in moment.limits]
    if not shown:
        return [Text(f"{count(moment.candidates)} candidates, no limit")]
    label = max(len(name) for name, _, _ in shown)
    amount = max(len(text) for _, _, text in shown)
    room = min(width - label - amount - 2, _WIDEST)
    lines = []
    for name, one, text in shown:
        line = Text(f"{name:<{label}} ")
        if room >= 6:
            done, rest = marks.bar(one.spent / one.most if one.most else 1.0, room)
            line = line.append(done, "cyan").append(rest, "dim").append(" ")
        lines.append(fitted(line.append(f"{text:>{amount}}"), width, marks))
    return lines


def pace(moment: Moment, width: int, marks: Marks) -> list[Text]:
    """Return how fast it goes, what is left, and what did not go well; as many lines as the width asks for."""
    lines = 1 if width >= 72 else 2
    found = flow(_pieces(moment), width, marks, lines)
    return found + [Text()] * (lines - len(found))


def _pieces(moment: Moment) -> Iterator[Text]:
    if moment.seconds_left is not None and not moment.ended:
        yield Text(left_text(moment.seconds_left, moment.at), "bold")
    if moment.per_minute:
        yield Text(f"{moment.per_minute:.3g} a minute")
    yield Text(f"{moment.failed} failed", "yellow" if moment.failed else "")
    yield Text(f"{moment.repeated} repeated")
    if moment.lost:
        yield Text(f"{moment.lost} workers lost", "yellow")


def _amount(one: Limit) -> str:
    if one.key == "seconds":
        return f"{since(one.spent)} of {duration(one.most)}"
    return f"{count(one.spent)} of {count(one.most)}"
