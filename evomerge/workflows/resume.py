"""Continuing a run: after an interruption or a crash, with a larger budget, or with other settings that concern speed.

A run is continued only on what it stood on when it began. That was recorded then (`evomerge.store.inputs`) and is found
again here; any difference that could change a result refuses the run, before anything is written.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from evomerge.assembly.hub_pins import find_pins, pin_config
from evomerge.assembly.inputs import checkpoints, find_inputs, values_then
from evomerge.assembly.prepare import prepare
from evomerge.assembly.workers import make_harness
from evomerge.config.canonical import at_resume, flat, shown
from evomerge.config.changes import with_changes
from evomerge.config.reader import from_data
from evomerge.config.schema import SearchConfig
from evomerge.config.values import LIMIT
from evomerge.errors import ConfigError, EvomergeError, InputsChanged, RunError
from evomerge.evaluation.contents import LENGTH
from evomerge.evaluation.harness import LmHarness
from evomerge.execution.base import StopSignal
from evomerge.search.events import Listener
from evomerge.store import RunDir, changed_versions
from evomerge.store.changes import config_changes, file_changes, item_changes, model_changes
from evomerge.store.inputs import RunInputs
from evomerge.system.secrets import looks_secret
from evomerge.workflows import Note
from evomerge.workflows.run import Run
from evomerge.workflows.search import carry_out, item_contents

log = logging.getLogger("evomerge")


def resume(
    run_dir: str | Path,
    *,
    budget: Mapping[str, float | int] | None,
    changes: Mapping[str, Any] | None = None,
    listener: Listener | None,
    stop: StopSignal | None,
    note: Note | None,
) -> Run:
    """Continue a run; see `evomerge.api.resume`."""
    with RunDir.open(run_dir, write=True) as run:
        before = run.inputs
        if before is None:
            raise RunError(f"the run {run.path} did not record what it stands on, so it cannot be continued")
        edited = with_changes(run.edited_config, changes or {})
        limits = {**(edited.get("budget") or {}), **run.database.get_meta("budget", {}), **(budget or {})}
        data = {**edited, "budget": limits}
        for version in changed_versions(run.environment):
            log.warning("since the run began, %s", version)
        if note is not None:
            note("checking models and tasks")
        config = from_data(data)
        used = {name: model.source for name, model in before.models.items()}
        config = pin_config(config, find_pins(checkpoints(config), note, used))
        found = find_inputs(data, config, known=before.models, note=note)
        recorded = {"seed": config.seed, "tasks": _unchecked(run.database.splits())}
        differences = [
            *found.problems,
            *config_changes(before, found.inputs, values_then(run.config, before), found.values),
            *model_changes(before, found.inputs),
            *file_changes(before, found.inputs),
        ]
        if differences:
            raise _refused(run, [*differences, *_item_changes_anyway(before, found.inputs, config, recorded)])
        prepared = prepare(data, recorded_splits=recorded, known=used, note=note)
        now = replace(found.inputs, **item_contents(prepared, note))
        differences = _item_changes(before, now, prepared.harness)
        if differences:
            raise _refused(run, differences)
        changed = _accepted(run.config, edited)
        run.accept(edited, now, changed)
        for one in changed:
            text = f"{one['key']}: {_said(one['before'])} until now, {_said(one['after'])} from now on"
            log.info("%s", text)
            if note is not None:
                note(text)
        if budget:
            run.database.set_meta("budget", dict(budget))
        carry_out(run, prepared, listener=listener, stop=stop, note=note)
    return Run(Path(run_dir))


def _refused(run: RunDir, differences: list[str]) -> InputsChanged:
    """Return the error that says what changed and how to go on."""
    one = len(differences) == 1
    what = "something that it stands on is" if one else f"{len(differences)} things that it stands on are"
    lines = "\n".join(f"  - {difference}" for difference in differences)
    return InputsChanged(
        f"the run {run.path} cannot be continued, since {what} not what it was when the run began; candidates of two "
        f"worlds would be mixed:\n{lines}\nThe run is as it was. Undo {'this' if one else 'these'} and resume again, "
        "or start a new run with `evomerge search`",
        differences,
    )


def _item_changes(before: RunInputs, now: RunInputs, harness: LmHarness) -> list[str]:
    if now.items == before.items and now.scoring == before.scoring:
        return []
    return item_changes(before, now, harness.pools(), LENGTH)


def _item_changes_anyway(
    before: RunInputs, now: RunInputs, config: SearchConfig, recorded: Mapping[str, Any]
) -> list[str]:
    """Return what changed about the items of a run that is refused already, as far as that can be found."""
    if list(before.items) != list(dict.fromkeys(spec.name for spec in config.evaluation.tasks)):
        return []  # other tasks, which the keys of the configuration say
    try:
        harness = make_harness(config, recorded_splits=recorded)
        return _item_changes(before, replace(now, **harness.contents()), harness)
    except ConfigError as error:
        return list(error.problems)
    except EvomergeError as error:
        return [str(error)]


def _unchecked(splits: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded splits without the hashes of their documents, since here each item is compared."""
    return {task: {split: {**one, "documents": ""} for split, one in own.items()} for task, own in splits.items()}


def _accepted(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is changed from one session to the next: `key`, `before`, `after`, `when`.

    What decides results is the same, and limits are no change of a search. Neither is a default that follows from
    another key.
    """
    old, new = shown(before), shown(now)
    said = {**dict(flat(before)), **dict(flat(now))}
    when = datetime.now().astimezone().isoformat(timespec="seconds")
    return [
        {"key": key, "before": _kept(old.get(key)), "after": _kept(new.get(key)), "when": when}
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key) and at_resume(key) != LIMIT and (key in said or key.rpartition(".")[0] in said)
    ]


def _kept(value: Any) -> Any:
    """Return a value as it may be kept: no secret that was written out once, and was replaced by a reference."""
    return "a secret" if isinstance(value, str) and looks_secret(value) else value


def _said(value: Any) -> str:
    return "not set" if value is None else str(value)
