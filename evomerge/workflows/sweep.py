"""Searches that differ in a few settings, side by side, and what those of one setting say over their seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.analysis.searches import found_over_seeds, search_found
from evomerge.analysis.verdict import with_verdict
from evomerge.errors import EvomergeError
from evomerge.store.run_dir import RunDir
from evomerge.store.status import run_status
from evomerge.system.text import error_text


def sweep_summary(runs: Sequence[tuple[Sequence[str], str | Path]]) -> dict[str, Any]:
    """Return what several searches found; see `evomerge.api.sweep_summary`."""
    found = [_one(tuple(setting), Path(path)) for setting, path in runs]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for one in found:
        rest = tuple(word for word in one["setting"] if not word.startswith("seed="))
        groups.setdefault(rest, []).append(one)
    return {
        "searches": [{key: value for key, value in one.items() if key not in ("models", "shares")} for one in found],
        "groups": [{"setting": list(rest), **found_over_seeds(ones)} for rest, ones in groups.items()],
    }


def _one(setting: tuple[str, ...], path: Path) -> dict[str, Any]:
    """Return one search: its winner, its gain over the best parent, and each model's means on the test items."""
    asked = {"setting": list(setting), "path": str(path)}
    try:
        with RunDir.open(path) as run, run.database.snapshot():
            return asked | search_found(run, with_verdict(run, run_status(run)))
    except EvomergeError as error:
        state: Mapping[str, Any] = {"state": "not begun", "error": None}
        if path.exists():
            state = {"state": "unreadable", "error": error_text(error)}
        return asked | search_found(None, state)
