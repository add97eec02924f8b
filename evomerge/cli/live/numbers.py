"""Numbers of a view in words, as the tables say them."""

from __future__ import annotations

import time

from evomerge.api import Against, Score
from evomerge.cli.tables import percent
from evomerge.system.figures import gain, mean_text
from evomerge.system.text import duration

LONG = 600.0
"""From so many seconds on, the end is said as a time of day, too."""

_GIB = 2**30


def score_text(score: Score | None, *, worst: bool, none: str) -> str:
    """Return a score with its interval."""
    return none if score is None or score.mean != score.mean else percent(score, worst=worst).strip()


def gain_text(against: Against) -> str | None:
    """Return the gain over a baseline with its interval; None: it is not known."""
    return None if against.gain is None else gain(against.gain).strip()


def value_text(value: float | None, none: str) -> str:
    """Return a mean: in per cent where it can be a share."""
    return none if value is None or value != value else mean_text(value, -1.0 <= value <= 1.0)


def count(value: float) -> str:
    """Return a number of things."""
    return f"{value:,.0f}"


def bytes_text(n: int) -> str:
    """Return an amount of memory."""
    return f"{n / _GIB:.1f} GiB" if n >= _GIB else f"{n / 2**20:.0f} MiB"


def since(seconds: float) -> str:
    """Return how long something takes already, in whole seconds, so that it changes no more than once a second."""
    return duration(float(int(seconds))) if seconds >= 1.0 else "0 s"


def left_text(seconds: float, at: float) -> str:
    """Return the time that is left; where it is long, with the time of day at its end.

    Args:
        seconds: that are left.
        at: now, in seconds since 1970.
    """
    said = f"{duration(seconds) if seconds >= 1.0 else '0 s'} left"
    if seconds < LONG:
        return said
    ends, now = time.localtime(at + seconds), time.localtime(at)
    same = (ends.tm_year, ends.tm_yday) == (now.tm_year, now.tm_yday)
    form = "%H:%M" if same else "%a %H:%M" if seconds < 6 * 86400 else "%Y-%m-%d %H:%M"
    return f"{said}, ends about {time.strftime(form, ends)}"
