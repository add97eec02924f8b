"""A run in one line of a list: how far it is, its best score beside the best parent's, and what it was told to do.

Only what the line needs is read: a list of hundreds of runs, or one of a long search, is there at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.analysis.verdict import best_parent, objective_of
from evomerge.record import Record, Score, Split, State
from evomerge.report.data import score
from evomerge.report.numbers import ScoreStyle, style_of
from evomerge.store.run_dir import RunDir
from evomerge.store.status import run_budget, run_state

BUSY_SECONDS = 5.0
"""How long who only looks waits for the commit of a writer."""


@dataclass(frozen=True)
class Overview:
    """One run of a list.

    Attributes:
        name: of its configuration.
        state: as of `evomerge.store.status.run_status`.
        candidates, failed: how many are recorded, and how many of them failed.
        budget: the limits: `candidates`, `items`, `seconds`; None or missing: none.
        spent: what was spent of them.
        best: the score of the best merge on `split`; None: nothing was scored yet.
        parent: that of the best parent on the same items, and its name.
        split: the last split on which the best merge was scored.
        style: how these scores are shown.
        tasks: their names.
        config: the composed configuration.
        error: of a search that failed.
        read: when it was read, in seconds since 1970.
    """

    name: str
    state: str
    candidates: int
    failed: int
    budget: Mapping[str, Any]
    spent: Mapping[str, Any]
    best: Score | None
    parent: Score | None
    parent_name: str | None
    split: Split | None
    style: ScoreStyle
    tasks: tuple[str, ...]
    config: Mapping[str, Any]
    error: str | None
    read: float

    @property
    def gain(self) -> float | None:
        """How far the best merge is ahead of the best parent; None: one of them has no score."""
        return None if self.best is None or self.parent is None else self.best.mean - self.parent.mean


def overview_of(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> Overview:
    """Read one run, which another process may be writing; nothing in its folder is touched.

    Args:
        path: its folder.
        busy_seconds: how long to wait for the commit of its writer.

    Raises:
        RunError: if it is no run, damaged, or of another format.
    """
    with (
        RunDir.open(path, mend=False, busy_seconds=busy_seconds) as run,
        run.database.snapshot(),
    ):
        return _overview(run)


def _overview(run: RunDir) -> Overview:
    database, config = run.database, run.config
    objectives = objective_of(run)
    tally = database.tally()
    choice = database.choice()
    number = database.best_number() if choice is None else choice.best
    best = None if number is None else database.record(number)
    baselines = database.baselines()
    rows = [{"name": one.name, **{str(split): _data(one, split) for split in Split}} for one in baselines]
    name, _ = best_parent(run, {"baselines": rows})
    parent = next((one for one in baselines if one.name == name), None)
    split = next((one for one in (Split.TEST, Split.VALIDATION, Split.SEARCH) if score(best, one) is not None), None)
    specs = () if objectives is None else objectives.specs
    return Overview(
        name=str(config.get("name") or run.path.name),
        state=run_state(run),
        candidates=sum(tally.values()),
        failed=tally.get(State.FAILED, 0) + tally.get(State.INVALID, 0),
        budget=run_budget(run),
        spent=database.progress().get("spent", {}),
        best=None if split is None else score(best, split),
        parent=None if split is None else score(parent, split),
        parent_name=name,
        split=split,
        style=style_of(objectives, [one for one in (*baselines, best) if one is not None]),
        tasks=tuple(dict.fromkeys(spec.task.name for spec in specs)) or _configured(config),
        config=config,
        error=database.get_meta("error"),
        read=time.time(),
    )


def _data(record: Record, split: Split) -> dict[str, Any] | None:
    found = score(record, split)
    return None if found is None else found.to_data()


def _configured(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the tasks of a configuration, for a run that did not come so far that it recorded its objectives."""
    tasks = (config.get("evaluation") or {}).get("tasks") or ()
    return tuple(str(one["name"]) for one in tasks if isinstance(one, Mapping) and "name" in one)
