"""Where a run stands, as the plain data that `evomerge status --json` prints. Its keys are stable."""

from __future__ import annotations

import fcntl
import os
from typing import Any

from evomerge.record import Record, Split, State, best_scored
from evomerge.store.run_dir import LOCK, RunDir

RUNNING, COMPLETE, INTERRUPTED, FAILED = "running", "complete", "interrupted", "failed"


def run_status(run: RunDir) -> dict[str, Any]:
    """Summarize a run; it may be running in another process.

    Returns:
        `name`, `path`, `state` ("running", "interrupted", "complete", "failed"), `candidates` (proposals recorded),
        `items` (item evaluations they cost), `seconds`, `cache_hits` (proposals that repeated an earlier recipe),
        `failed`, `error`, `budget`, `baselines` (list of `name`, `search`, `validation`, `test`) and `best` (`id`,
        `recipe_hash`, `search`, `validation`, `test`; None before the first score). Each score is
        `{"mean", "low", "high", "n"}` or None.
    """
    database = run.database
    spent = database.progress().get("spent", {})
    records = list(database.records(baselines=True))
    proposals = [record for record in records if not record.is_baseline]
    baselines = sorted((record for record in records if record.is_baseline), key=lambda record: -record.number)
    return {
        "name": run.config.get("name", run.path.name),
        "path": str(run.path),
        "state": _state(run),
        "candidates": len(proposals),
        "items": spent.get("items", 0),
        "seconds": spent.get("seconds", 0.0),
        "cache_hits": spent.get("hits", 0),
        "failed": sum(record.state in (State.FAILED, State.INVALID) for record in proposals),
        "error": database.get_meta("error"),
        "budget": run.config.get("budget", {}),
        "baselines": [{"name": record.name, **_scores(record)} for record in baselines],
        "best": _best(proposals, database.get_meta("best")),
    }


def _state(run: RunDir) -> str:
    """The recorded state, unless the process that wrote "running" is gone: then the run was interrupted."""
    recorded = str(run.database.get_meta("state", INTERRUPTED))
    return INTERRUPTED if recorded == RUNNING and not run.writable and not _is_locked(run) else recorded


def _is_locked(run: RunDir) -> bool:
    try:
        handle = os.open(run.path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _best(proposals: list[Record], winner: int | None) -> dict[str, Any] | None:
    """The winner once the finalists were compared; before that, the best on the search items."""
    scored = [record for record in proposals if record.fitness is not None]
    best = next((record for record in scored if record.number == winner), None) or best_scored(scored)
    if best is None:
        return None
    return {"id": best.number, "name": best.name, "recipe_hash": best.recipe.content_hash, **_scores(best)}


def _scores(record: Record) -> dict[str, Any]:
    scores = record.scores or {}
    return {str(split): scores[split].to_data() if split in scores else None for split in Split}
