"""Lines for an output that is no terminal, each of which can be understood alone."""

from __future__ import annotations

from evomerge.api import Moment, Record, Score, Split
from evomerge.cli.live.numbers import gain_text, left_text, score_text
from evomerge.system.text import ERROR_LENGTH, visible


def progress_words(moment: Moment) -> str:
    """Return the phase with how far it has come: "search 45 of 100 (2 failed), 12.3 a minute, 5 min left"."""
    part = moment.part
    said = visible(moment.phase) or "search"
    if part is not None:
        said += f" {part.done}" + ("" if part.total is None else f" of {part.total}")
        if part.name == "search":
            if moment.failed:
                said += f" ({moment.failed} failed)"
            if moment.per_minute:
                said += f", {moment.per_minute:.3g} a minute"
            if moment.seconds_left is not None:
                said += f", {left_text(moment.seconds_left, moment.at)}"
    return said


def best_words(moment: Moment) -> str | None:
    """Return the best merge with its gain over the best parent; None before there is one."""
    if moment.best is None:
        return None
    said = f"best {visible(moment.best)} {score_text(moment.score, worst=moment.worst, none='–')}"
    if moment.limited:
        said += " (breaks a limit)"
    return said if (gain := gain_words(moment)) is None else f"{said}, {gain}"


def gain_words(moment: Moment) -> str | None:
    """Return the gain of the best merge: "+43.0 points [33.7, 52.8] over math, the best parent"; None: not known."""
    parent = moment.over("best parent")
    gain = None if parent is None or moment.best is None else gain_text(parent)
    return None if parent is None or gain is None else f"{gain} over {visible(parent.name)}, the best parent"


def moment_line(moment: Moment) -> str:
    """Return where a search stands in one line."""
    if moment.ended:
        said = moment.state + (f": {visible(moment.error, most=ERROR_LENGTH)}" if moment.error else "")
    else:
        said = progress_words(moment)
    return "; ".join(one for one in (said, best_words(moment)) if one)


def record_words(record: Record, split: Split, score: Score | None, *, worst: bool) -> str:
    """Return what came of one model: "candidate 44 51.0 % [46.1, 55.9] on the search items"."""
    name = visible(record.name)
    if record.error:
        return f"{name} failed on the {split} items: {visible(record.error, most=ERROR_LENGTH)}"
    judged = split != Split.TEST and not record.is_baseline
    broken = judged and record.result is not None and record.result.violation > 0.0
    return f"{name} {score_text(score, worst=worst, none='–')} on the {split} items" + (", breaks a limit" * broken)
