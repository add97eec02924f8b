"""Limits that the best merge breaks: a constraint, a floor, the guard of the entropy.

A search prefers merges that keep its limits, but it ends with one that does not where it found no other, and limits
that are kept on the items that chose may be broken on others. Both are said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evomerge.analysis.choice import note_baselines
from evomerge.errors import EvaluationError
from evomerge.evaluation.objective import Objectives
from evomerge.record import Caution, Split
from evomerge.store.run_dir import RunDir

_SHOWN = 3
"""How many broken limits are spelled out."""


def broken_limits(run: RunDir, objectives: Objectives, number: int) -> dict[str, list[str]]:
    """Return, for each split on which a candidate breaks limits, a sentence for each of them.

    The search items are looked at only where there is no validation score.
    """
    record = run.database.record(number)
    if record is None:
        return {}
    found: dict[str, list[str]] = {}
    chose = Split.VALIDATION if Split.VALIDATION in (record.scores or {}) else Split.SEARCH
    if chose == Split.SEARCH and (record.result is None or record.result.violation == 0.0):
        chose = Split.TEST
    for split in dict.fromkeys([chose, Split.TEST]):
        if split not in (record.scores or {}):
            continue
        if split == Split.SEARCH and not _answered_all(run, number):
            found[str(split)] = ["so its estimated means say"]
            continue
        if objectives.compares:
            note_baselines(run, objectives, split)
        try:
            broken = objectives.violated(run.database.item_scores(number, split), split)
        except EvaluationError:
            continue  # recorded under other objectives, or a parent has no scores there
        if broken:
            found[str(split)] = broken
    return found


def _answered_all(run: RunDir, number: int) -> bool:
    """Return whether a candidate answered as many search items as a baseline, which answers all."""
    baseline = max(
        (len(run.database.item_scores(one.number, Split.SEARCH)) for one in run.database.baselines()), default=0
    )
    return len(run.database.item_scores(number, Split.SEARCH)) >= baseline


def limit_cautions(found: Mapping[str, Any]) -> Iterator[Caution]:
    """Yield one for each split on which the best merge breaks limits.

    Args:
        found: a status with `broken_limits` in its `best`; `who` is what the merge is called.
    """
    best, who = found.get("best"), found.get("who") or "the best merge"
    for split, broken in ((best or {}).get("broken_limits") or {}).items():
        what = "; ".join(broken[:_SHOWN]) + (f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else "")
        choice = (found.get("choice") or {}).get("kind")
        none = split == Split.VALIDATION and choice in ("winner", "front") and len(found.get("finalists", ())) > 0
        others = ", and no other finalist keeps every limit there" if none else ""
        limits = "a limit" if len(broken) == 1 else f"{len(broken)} limits"
        yield Caution("limits", f"{who} breaks {limits} on the {split} items{others}: {what}")
