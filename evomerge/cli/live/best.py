"""The best merge so far: its score, its gain over the best parent and the average, and how it came there."""

from __future__ import annotations

from rich.text import Text

from evomerge.api import Against, Moment
from evomerge.cli.live.marks import Marks
from evomerge.cli.live.numbers import gain_text, score_text
from evomerge.cli.live.rows import fitted
from evomerge.system.text import visible

_WIDEST = 60


def best(moment: Moment, width: int, marks: Marks) -> list[Text]:
    """Return four lines: the best merge, its gain over the best parent, over the average, its course."""
    lines = [_best(moment, marks)]
    lines += [_against(moment.over(role), role, moment, marks) for role in ("best parent", "average")]
    spark = marks.spark(moment.course, min(width - 2, _WIDEST))
    lines.append(Text("  ") + Text(spark, "cyan") if spark else Text(f"  {marks.none}", "dim"))
    return [fitted(line, width, marks) for line in lines]


def _best(moment: Moment, marks: Marks) -> Text:
    if moment.best is None:
        return Text("best so far ") + Text(f"{marks.none} no candidate was scored yet", "dim")
    what = "best merge " if moment.split != "search" else "best so far "
    line = Text(what) + Text(score_text(moment.score, worst=moment.worst, none=marks.none), "bold green")
    if moment.limited:
        line = line + Text(" breaks a limit", "bold yellow")
    n = "" if moment.score is None else f", {moment.score.n} {moment.split} items"
    return line + Text(f"  {visible(moment.best)}{n}")


def _against(one: Against | None, role: str, moment: Moment, marks: Marks) -> Text:
    if one is None:
        return Text(f"  {marks.none} no {role} was scored", "dim")
    name = visible(one.name)
    who = name if name == role else f"{name}, the {role}"
    gain = gain_text(one)
    own = score_text(one.score, worst=moment.worst, none=marks.none)
    if gain is None:
        return Text(f"  {who}: {own}", "dim")
    style = "green" if one.gain is not None and one.gain["low"] > 0.0 else ""
    if one.gain is not None and one.gain["high"] < 0.0:
        style = "red"
    return Text("  ") + Text(gain, style) + Text(f" over {who}") + Text(f" ({own.partition(' [')[0]})", "dim")
