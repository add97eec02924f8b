"""The signs of a view: bars and sparklines in blocks, or in ASCII where a terminal has no others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

_ASCII_TERMS = ("linux", "ansi", "cons25", "vt100", "vt102", "vt220", "vt52")
_ASCII_LOCALES = ("C", "POSIX")


@dataclass(frozen=True)
class Marks:
    """The signs of one kind of terminal.

    Attributes:
        full: a part of a bar that is done; so is `rest` of one that is not.
        steps: the heights of a sparkline, the lowest first.
        more: what stands for what is cut off.
        none: what stands where there is no value.
        dot: what stands between two things on a line.
        done: what stands behind a part that is over.
    """

    full: str
    rest: str
    steps: str
    more: str
    none: str
    dot: str
    done: str

    def bar(self, share: float, width: int) -> tuple[str, str]:
        """Return the done and the undone part of a bar; it is full only where all is done."""
        share = min(max(share, 0.0), 1.0) if share == share else 0.0
        n = width if share == 1.0 else min(int(share * width + 0.5), width - 1)
        n = max(n, 0)
        return self.full * n, self.rest * (width - n)

    def spark(self, values: Sequence[float], width: int) -> str:
        """Return values as a row of at most `width` heights, from the smallest to the largest of them."""
        if not values or width < 1:
            return ""
        if len(values) > width:
            values = [values[(i + 1) * len(values) // width - 1] for i in range(width)]
        low, high = min(values), max(values)
        top = len(self.steps) - 1
        if high <= low:
            return self.steps[top // 2] * len(values)
        return "".join(self.steps[int((value - low) / (high - low) * top + 0.5)] for value in values)


BLOCKS = Marks("━", "─", "▁▂▃▄▅▆▇█", "…", "–", "·", "✓")
ASCII = Marks("#", "-", "_.:-=+*#", "...", "-", "|", "ok")


def marks_for(console: Console) -> Marks:
    """Return the signs that a terminal can show, by its encoding, the locale and its name."""
    if not (console.encoding or "").lower().replace("-", "").startswith("utf"):
        return ASCII
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or ""
    return ASCII if locale in _ASCII_LOCALES or os.environ.get("TERM") in _ASCII_TERMS else BLOCKS
