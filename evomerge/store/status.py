"""Where a run stands, as the plain data that `evomerge status --json` prints. Its keys are stable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge.record import Choice, Record, Split, State, best_scored
from evomerge.store.answers import DROPPED
from evomerge.store.database import Database
from evomerge.store.lock import holder_of
from evomerge.store.run_dir import LOCK, RunDir
from evomerge.system.references import resolved

UNSCORED = "unscored"
"""The key in the database of why records have no score on a split: {number: {split: reason}}."""

PHASE = "phase"
"""The key in the database of the part of the search that began last: `name`, `total`, `done` (before it), `at`."""

RUNNING, COMPLETE, INTERRUPTED, FAILED = "running", "complete", "interrupted", "failed"


def run_status(run: RunDir) -> dict[str, Any]:
    """Return where a run stands; it may be running in another process.

    Returns:
        `name`, `path`, `state` ("running", "interrupted", "complete", "failed"), `candidates` (proposals recorded),
        `items` (item evaluations they cost), `seconds`, `cache_hits` (proposals that repeated an earlier recipe),
        `failed`, `error`, `budget`, `per_minute` (candidates), `seconds_left` (until the budget is spent; both are None
        where they are not known), `workers` (the executor's last report, see
        `evomerge.execution.pool.workers.WorkerPool.report`; None without a pool), `baselines` (list of `name`,
        `search`, `validation`, `test`) and `best` (`id`, `recipe_hash`, `search`, `validation`, `test`; None before
        the first score), `changed` (what was changed at `resume`, the oldest first: `key`, `before`, `after`, `when`).
        Each score is `{"mean", "low", "high", "n"}` or None. `unscored` lists the baselines and finalists that could
        not be scored on a split: `id`, `name`, `split`, `error`. `answers`: whose answers can be read (`kept`: by split
        the ids; baselines have negative ones), what they take in `bytes`, and how many were `dropped` by split since
        they did not fit.
    """
    database = run.database
    progress = database.progress()
    spent = progress.get("spent", {})
    budget = run_budget(run)
    workers = progress.get("workers")
    per_minute = (workers or {}).get("jobs_per_minute") or mean_rate(spent)
    records = list(database.records(baselines=True))
    proposals = [record for record in records if not record.is_baseline]
    baselines = sorted((record for record in records if record.is_baseline), key=lambda record: -record.number)
    return {
        "name": run.config.get("name", run.path.name),
        "path": str(run.path),
        "state": run_state(run),
        "candidates": len(proposals),
        "items": spent.get("items", 0),
        "seconds": spent.get("seconds", 0.0),
        "cache_hits": spent.get("hits", 0),
        "failed": sum(record.state in (State.FAILED, State.INVALID) for record in proposals),
        "error": database.get_meta("error"),
        "budget": budget,
        "per_minute": per_minute,
        "seconds_left": time_left(budget, spent, per_minute),
        "workers": workers,
        "baselines": [{"name": record.name, **_scores(record)} for record in baselines],
        "best": _best(proposals, database.choice()),
        "unscored": _unscored(records, database.get_meta(UNSCORED, {})),
        "changed": run.changed,
        "answers": _answers(database),
    }


def run_budget(run: RunDir) -> dict[str, Any]:
    """Return the limits of a search: those of its configuration, and what a session was given in their place."""
    own = {key: _number(value) for key, value in (run.config.get("budget") or {}).items()}
    return {**own, **run.database.get_meta("budget", {})}


def _answers(database: Database) -> dict[str, Any]:
    """Return whose answers can be read: by split the ids, the bytes that they take, how many did not fit."""
    kept = database.answers.kept()
    return {
        "kept": {str(split): [number for number, own in kept if own == split] for split in Split},
        "bytes": database.answers.n_bytes(),
        "dropped": database.get_meta(DROPPED, {}),
    }


def _unscored(records: list[Record], reasons: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return who could not be scored where: baselines on the search items, and whoever else on the further splits."""
    found = []
    for record in sorted(records, key=lambda one: (not one.is_baseline, abs(one.number))):
        own = dict(reasons.get(str(record.number), {}))
        if record.is_baseline and record.error is not None:
            own[str(Split.SEARCH)] = record.error
        found += [
            {"id": record.number, "name": record.name, "split": str(split), "error": own[split]}
            for split in Split
            if split in own
        ]
    return found


def _number(value: Any) -> float | None:
    """Return a limit of the budget, whose configuration may be a reference; None: there is none, or it has no value."""
    found = resolved(value)[0]
    try:
        return None if found is None else float(found) if "." in str(found) else int(found)
    except (TypeError, ValueError):
        return None


def mean_rate(spent: Mapping[str, float]) -> float | None:
    """Return how many candidates a minute were scored since the search began; None: that is not known."""
    seconds = spent.get("seconds", 0.0)
    return 60.0 * (spent.get("candidates", 0) - spent.get("hits", 0)) / seconds if seconds > 0.0 else None


def time_left(budget: Mapping[str, float | None], spent: Mapping[str, float], per_minute: float | None) -> float | None:
    """Return how long the search would go on at this rate, until the first limit of its budget."""
    found = []
    seconds, candidates, items = (budget.get(key) for key in ("seconds", "candidates", "items"))
    if seconds is not None:
        found.append(seconds - spent.get("seconds", 0.0))
    if per_minute and candidates is not None:
        found.append(60.0 * (candidates - spent.get("candidates", 0)) / per_minute)
    if per_minute and items is not None and spent.get("items") and spent.get("candidates"):
        each = spent["items"] / spent["candidates"]
        found.append(60.0 * (items - spent["items"]) / each / per_minute)
    return max(0.0, min(found)) if found else None


def run_state(run: RunDir) -> str:
    """Return the recorded state; "interrupted" if it is "running" but no process writes the run."""
    recorded = str(run.database.get_meta("state", INTERRUPTED))
    return INTERRUPTED if recorded == RUNNING and not run.writable and not is_written(run.path) else recorded


def is_written(path: Path) -> bool:
    """Return whether a process writes the run in a folder now; its lock is asked for, and held for an instant."""
    return bool(holder_of(path / LOCK).held)


def _best(proposals: list[Record], choice: Choice | None) -> dict[str, Any] | None:
    """Return the best of the choice; before there is one, the best candidate on the search items."""
    scored = [record for record in proposals if record.fitness is not None]
    best = next((record for record in scored if choice and record.number == choice.best), None) or best_scored(scored)
    if best is None:
        return None
    return {"id": best.number, "name": best.name, "recipe_hash": best.recipe.content_hash, **_scores(best)}


def _scores(record: Record) -> dict[str, Any]:
    scores = record.scores or {}
    return {str(split): scores[split].to_data() if split in scores else None for split in Split}
