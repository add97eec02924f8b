"""Reading what models answered in a run, and writing it as lm-eval does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from evomerge.analysis.answers import (
    PARENT,
    WINNER,
    AnsweredItem,
    answered_items,
    best_parents,
    default_models,
    model_named,
)
from evomerge.errors import ConfigError, RunError
from evomerge.evaluation.samples import samples_folder, write_samples
from evomerge.record import Split
from evomerge.store.run_dir import RunDir

WHICH = ("lost", "gained", "wrong", "right")


def answers(
    run_dir: str | Path,
    *,
    model: str | None = None,
    against: Sequence[str] | None = None,
    tasks: Sequence[str] = (),
    split: str | None = None,
    item: int | None = None,
    which: Sequence[str] = (),
) -> list[AnsweredItem]:
    """Return what models answered, side by side; see `evomerge.api.answers`."""
    for what, given, known in (("kind of item", which, WHICH), ("split", [split] if split else [], tuple(Split))):
        unknown = [one for one in given if one not in known]
        if unknown:
            raise ConfigError(f"there is no {what} {unknown[0]!r}; there are {', '.join(known)}")
    with RunDir.open(run_dir) as run, run.database.snapshot():
        first, beside = WINNER if model is None else model, {}
        if against is None:
            beside = {task: _called(run, name, first) for task, name in best_parents(run, tasks).items()}
            against = list(beside.values()) or [_called(run, name, first) for name in default_models(run)[1:]]
        rows = answered_items(
            run,
            list(dict.fromkeys([first, *against])),
            split=None if split is None else Split(split),
            tasks=tasks,
            item=item,
            beside=beside,
        )
    return [row for row in rows if not which or _is_one_of(row, which)]


def save_answers(run_dir: str | Path, rows: Sequence[AnsweredItem], out: str | Path) -> list[Path]:
    """Write answers as lm-eval's sample logs, a folder a model; see `evomerge.api.save_answers`."""
    prompts = {(row.task, row.item): row.prompt for row in rows if row.prompt is not None}
    if rows and not prompts:
        raise RunError(f"the run {run_dir} does not know what was asked, which lm-eval's sample logs tell")
    now, written = datetime.now(), []
    with RunDir.open(run_dir) as run, run.database.snapshot():
        splits = run.database.splits()
        sources = {row.task: splits[row.task][str(row.split)]["task"] for row in rows if row.task in splits}
        for name in dict.fromkeys(name for row in rows for name in row.answers):
            # With chat templates each model may have been asked in words of its own.
            own = run.database.answers.prompts(model_named(run, name).number, rows[0].split)
            written += write_samples(
                samples_folder(out, name),
                [row.answers[name].answer for row in rows if name in row.answers],
                own,
                now=now,
                sources=sources,
            )
    return written


def _called(run: RunDir, parent: str, first: str) -> str:
    """Return what a `parent:NAME` is called: as the first model, which it may be, and without the prefix if clear."""
    if model_named(run, parent).number == model_named(run, first).number:
        return first
    name = parent.removeprefix(PARENT)
    return name if _is_clear(run, name) else parent


def _is_clear(run: RunDir, name: str) -> bool:
    """Return whether a parent's name alone means the parent."""
    return model_named(run, name).number == model_named(run, f"{PARENT}{name}").number


def _is_one_of(row: AnsweredItem, which: Sequence[str]) -> bool:
    right = next(iter(row.answers.values())).right
    return row.kind in which or ("wrong" in which and right is False) or ("right" in which and right is True)
