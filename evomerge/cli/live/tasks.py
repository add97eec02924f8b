"""Task by task: the best merge beside the best parent and the average, lost skills marked."""

from __future__ import annotations

import math

from rich.text import Text

from evomerge.api import Moment, TaskGain
from evomerge.cli.live.marks import Marks
from evomerge.cli.live.rows import columns
from evomerge.cli.skill_table import LOST, loss_word
from evomerge.system.figures import gain, mean_text
from evomerge.system.text import visible


def tasks(moment: Moment, width: int, marks: Marks, room: int) -> list[Text]:
    """Return a table of at most so many lines; where it is too long, lost skills and the smallest gains come first."""
    rows, folded = list(moment.tasks), []
    if not rows or room < 2:
        return []
    if len(rows) > room - 1:
        order = sorted(rows, key=_gravity)
        rows, folded = order[: room - 2], order[room - 2 :]
    head = ["task", "best merge", "gain [95 %]", "best parent", "average"]
    lines = columns(head, [_row(one, marks) for one in rows], width, marks) if rows else []
    if folded:
        lost = sum(bool(one.skill and one.skill["lost"]) for one in folded)
        lines.append(Text(f"{marks.more} {len(folded)} more tasks" + (f", {lost} of them lost" if lost else ""), "dim"))
    return lines


def _gravity(one: TaskGain) -> tuple[bool, float]:
    skill = one.skill
    return skill is None or not skill["lost"], math.inf if not skill or not skill["n"] else skill["difference"]


def _row(one: TaskGain, marks: Marks) -> list[Text]:
    skill = one.skill
    if skill is None or not skill["n"]:
        return [Text(visible(one.name)), *(Text(marks.none) for _ in range(3)), _average(one, marks)]
    style = LOST if skill["lost"] else ""
    word = f" {loss_word(skill)}" if skill["lost"] else ""
    change = gain(skill).strip().replace(" points", "")
    parent = f"{mean_text(skill['parent_mean'], skill['share'])} {visible(skill['best_parent'])}"
    return [
        Text(visible(one.name), style),
        Text(mean_text(skill["mean"], skill["share"]) + word, style),
        Text(change, style),
        Text(parent),
        _average(one, marks),
    ]


def _average(one: TaskGain, marks: Marks) -> Text:
    share = one.skill["share"] if one.skill else one.average is not None and -1.0 <= one.average <= 1.0
    return Text(marks.none if one.average is None else mean_text(one.average, share))
