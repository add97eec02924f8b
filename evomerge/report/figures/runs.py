"""Several runs side by side: what differs in their configurations, and what each found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.analysis.searches import found_over_seeds
from evomerge.report.data import RunData
from evomerge.report.figure import Cell, Figure, Table
from evomerge.report.groups import groups_of, labels_of
from evomerge.report.numbers import score_style
from evomerge.store.status import COMPLETE
from evomerge.system.figures import gain, p_number, p_text
from evomerge.system.text import cut, duration

ENOUGH = 5
"""With fewer seeds than this, Student's interval is so wide that it says little."""

_LONGEST = 120
_SETTINGS = 4
"""So many settings have a column; more are told by the label alone."""


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Lay out several runs, a row each."""
    if len(runs) < 2:
        return None
    groups = groups_of(runs)
    settings = {id(run): group.setting for group in groups for run in group.runs}
    keys = list(dict.fromkeys(key for group in groups for key in group.setting))[:_SETTINGS]
    columns = [
        "run",
        "best merge, test",
        "gain over the best parent [95 %]",
        "p",
        "best parent",
        "lost skills",
        "use it",
    ]
    columns += [*keys, "seed", "state", "candidates", "time"]
    rows = [
        _row(run, label, [settings[id(run)].get(key) for key in keys])
        for run, label in zip(runs, labels_of(runs), strict=True)
    ]
    lost = frozenset(i for i, run in enumerate(runs) if run.found["lost"] or run.status["state"] != COMPLETE)
    n = len(groups)
    repeats = len(runs) - sum(len(group.one_a_seed) for group in groups)
    alike = " that differ in the seed alone" if len(groups[0].one_a_seed) > 1 else " of one configuration and seed"
    lead = f"{len(runs)} runs" + (f" of {n} configurations" if n > 1 else alike) + ". "
    lead += " ".join(_over_seeds(group.label if n > 1 else "", group.one_a_seed) for group in groups)
    unfinished = sum(run.status["state"] != COMPLETE for run in runs)
    if unfinished:
        lead += f" {unfinished} of the runs {'is' if unfinished == 1 else 'are'} not complete, and left out of that."
    if repeats:
        lead += f" {repeats} of the runs {'repeats' if repeats == 1 else 'repeat'} a seed, which counts once."
    few = any(1 < len(group.one_a_seed) < ENOUGH for group in groups)
    note = f"An interval from fewer than {ENOUGH} seeds says little." if few else ""
    return Figure("runs", "The runs side by side", lead.strip(), table=Table(columns, rows, lost), note=note)


def _row(run: RunData, label: str, settings: Sequence[str | None]) -> list[Cell]:
    found, status = run.found, run.status
    one, style = found["gain"], score_style(run)
    state = status["state"] + (f": {cut(str(status['error']), _LONGEST)}" if status["error"] else "")
    verdict = (status["verdict"] or {}).get("use") if found["best"] is not None else None
    use = {True: "yes", False: "no", None: "weigh"}[verdict] if found["best"] is not None else None
    return [
        label,
        style.score(found["test"]) if found["test"] else None,
        style.difference(one) if one else None,
        p_number(one["p_value"]) if one else None,
        found["best_parent"],
        ", ".join(found["lost"]) or ("none" if found["best"] is not None else None),
        use,
        *settings,
        run.seed,
        state,
        status["candidates"],
        duration(status["seconds"]),
    ]


def _over_seeds(label: str, runs: Sequence[RunData]) -> str:
    """Return what the gain over the best parent is over the seeds of a group."""
    together = found_over_seeds([run.found for run in runs])
    one: Mapping[str, Any] | None = together["gain"]
    of = f"{label}: " if label else ""
    if one is None:
        return f"{of}no gain is known." if label else "No gain is known."
    difference = {**one, "difference": one["mean"]}
    style = score_style(runs[0])
    if one["low"] is None:
        seeds = f", with each of {one['n']} seeds" if one["n"] > 1 else ""
        return f"{of}{style.change(one['mean'])} over the best parent{seeds}."
    what = gain(difference).strip() if one["share"] else style.difference(difference)
    spread = style.change(one["spread"]).lstrip("+")
    return (
        f"{of}{what} over the best parent (mean of {one['n']} seeds, 95 % interval; standard deviation {spread}; "
        f"{p_text(one['p_value'])}), above zero in {one['above']} of {one['n']}."
    )
