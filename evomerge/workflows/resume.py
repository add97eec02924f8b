"""Continuing a run: after an interruption or a crash, or with a larger budget."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from evomerge.assembly.prepare import prepare
from evomerge.execution.base import StopSignal
from evomerge.search.events import Listener
from evomerge.store import RunDir, changed_versions
from evomerge.workflows import Note
from evomerge.workflows.run import Run
from evomerge.workflows.search import carry_out

log = logging.getLogger("evomerge")


def resume(
    run_dir: str | Path,
    *,
    budget: Mapping[str, float | int] | None,
    listener: Listener | None,
    stop: StopSignal | None,
    note: Note | None,
) -> Run:
    """Continue a run; see `evomerge.api.resume`."""
    with RunDir.open(run_dir, write=True) as run:
        data = run.config
        data["budget"] = {**(data.get("budget") or {}), **run.database.get_meta("budget", {}), **(budget or {})}
        for change in changed_versions(run.environment):
            log.warning("since the run began, %s", change)
        if note is not None:
            note("checking models and tasks")
        recorded = {"seed": data.get("seed", 0), "tasks": run.database.splits()}
        prepared = prepare(data, recorded_splits=recorded if recorded["tasks"] else None)
        run.database.set_splits(prepared.harness.split_data()["tasks"])
        if budget:
            run.database.set_meta("budget", dict(budget))
        carry_out(run, prepared, listener=listener, stop=stop, note=note)
    return Run(Path(run_dir))
