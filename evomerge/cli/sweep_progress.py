"""Which of the searches of a sweep runs, and what those before it found: a few lines before each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.cli.tables import percent
from evomerge.system.figures import gain
from evomerge.system.text import visible

SHOWN = 8
"""So many searches that are done are listed; of more, the last ones."""


def sweep_lines(settings: Sequence[Sequence[str]], done: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield which search begins now, of how many, after a line for each that is done.

    Args:
        settings: of all searches, in order: the overrides by which each differs.
        done: those that are done, as in `searches` of `evomerge.api.sweep_summary`.
    """
    left_out = max(len(done) - SHOWN, 0)
    if left_out:
        yield f"({left_out} searches before)"
    for place, one in list(enumerate(done))[left_out:]:
        yield f"  {place + 1}/{len(settings)} {_setting(one['setting'])}: {_found(one)}"
    yield f"search {len(done) + 1} of {len(settings)}: {_setting(settings[len(done)])}"


def _setting(words: Sequence[str]) -> str:
    return visible(" ".join(words)) or "as configured"


def _found(one: Mapping[str, Any]) -> str:
    """Return what a search found: its winner's test score, and the gain over the best parent."""
    if one["best"] is None:
        return visible(one["state"]) + (f": {visible(one['error'], most=200)}" if one["error"] else "")
    own = one["gain"]
    said = f"{visible(one['best'])} {percent(one['test'], worst=own is not None and own['worst']).strip()}"
    if own is not None:
        said += f", {gain(own).strip()} over {visible(one['best_parent'])}"
    return said + (f"; lost: {visible(', '.join(one['lost']))}" if one["lost"] else "")
