"""The tables at the end of a sweep: each search, and what searches that differ in the seed alone say together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from evomerge.cli.console import make_console, named, print_table
from evomerge.cli.skill_table import LOST
from evomerge.cli.tables import percent
from evomerge.system import figures
from evomerge.system.figures import percentage
from evomerge.system.text import visible

ENOUGH = 5
"""With fewer searches than this, Student's interval is so wide that it says little."""


def show_sweep(summary: Mapping[str, Any]) -> None:
    """Print what the searches of a sweep found.

    Args:
        summary: as `evomerge.api.sweep_summary` returns it.
    """
    console = make_console()
    print_table(console, _searches(summary["searches"]))
    for group in summary["groups"]:
        if group["complete"]:
            print_table(console, _group(group))
        for line in (*_gain(group), *_few(group)):
            console.print(line)


def _searches(searches: list[Mapping[str, Any]]) -> Table:
    what = "score on the test items and gain over the best parent, each with its 95 % interval"
    table = Table(title=f"{len(searches)} searches: {what}")
    losing = any(one["lost"] for one in searches)
    for column in ("search", "winner", "test", "gain", "p", *(["lost skills"] if losing else []), "folder"):
        table.add_column(column, justify="right" if column in ("test", "gain", "p") else "left")
    for one in searches:
        setting = named(" ".join(one["setting"]) or "as configured")
        if one["best"] is None:
            said = one["state"] + (f": {visible(one['error'], most=200)}" if one["error"] else "")
            table.add_row(setting, named(said), "–", "–", "–", *(["–"] if losing else []), named(one["path"]))
            continue
        gain = one["gain"]
        shown = "–" if gain is None else f"{figures.gain(gain).strip()} over {visible(one['best_parent'])}"
        score = percent(one["test"], worst=gain is not None and gain["worst"])
        p_value = "–" if gain is None else figures.p_number(gain["p_value"])
        lost = [named(", ".join(one["lost"]), LOST)] if losing else []
        table.add_row(setting, named(one["best"]), score, shown, p_value, *lost, named(one["path"]))
    return table


def _group(group: Mapping[str, Any]) -> Table:
    """Lay out the models of searches that differ in the seed alone, with each task where there are several."""
    tasks = list(dict.fromkeys(task for model in group["models"] for task in model["tasks"]))
    tasks = tasks if len(tasks) > 1 else []
    n = group["complete"]
    of = "" if not group["setting"] else f"{' '.join(group['setting'])}: "
    what = "mean ± standard deviation and 95 % interval of the mean, over seeds" if n > 1 else "one seed: no spread"
    table = Table(title=named(f"{of}test items, {n} search{'es' * (n != 1)}; {what}"))
    table.add_column("model")
    for column in ("test", *tasks):
        table.add_column(named(column), justify="right")
    for model in group["models"]:
        cells = (_over_seeds(one) for one in (model["test"], *(model["tasks"].get(task) for task in tasks)))
        table.add_row(named(model["name"]), *cells)
    return table


def _over_seeds(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "–"
    share = -1.0 <= one["mean"] <= 1.0
    shown = percentage if share else "{:.4g}".format
    unit = " %" if share else ""
    if one["spread"] is None:
        return f"{shown(one['mean'])}{unit}"
    interval = "" if one["low"] is None else f" [{shown(one['low'])}, {shown(one['high'])}]"
    return f"{shown(one['mean'])} ± {shown(one['spread'])}{unit}{interval}"


def _gain(group: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line that says what the gain over the best parent is over seeds."""
    gain, n = group["gain"], group["searches"]
    of = "" if not group["setting"] else f"{visible(' '.join(group['setting']))}: "
    if group["complete"] < n:
        yield f"{of}{n - group['complete']} of {n} searches are not complete, and are left out"
    if gain is None or gain["spread"] is None:
        return
    if gain["low"] is None:
        same = (
            f"{figures.fixed(100 * gain['mean'], 1, signed=True)} points" if gain["share"] else f"{gain['mean']:+.4g}"
        )
        yield f"{of}gain over the best parent: {same} with each of {gain['n']} seeds"
        return
    spread = f"{figures.fixed(100 * gain['spread'], 1)} points" if gain["share"] else f"{gain['spread']:.4g}"
    yield (
        f"{of}gain over the best parent, over {gain['n']} seeds: "
        f"{figures.gain({**gain, 'difference': gain['mean']}).strip()} (95 % interval of the mean), standard deviation "
        f"{spread}, {figures.p_text(gain['p_value'])}; above zero in {gain['above']} of {gain['n']}"
    )


def _few(group: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line where there are too few seeds for an interval that says something."""
    n = group["complete"]
    if 1 < n < ENOUGH:
        yield f"note: an interval from {n} seeds says little; use {ENOUGH} or more"
