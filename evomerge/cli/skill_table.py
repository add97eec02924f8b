"""The table of a result task by task: the best merge beside the parents, with what it gains or loses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from evomerge.cli.console import WIDEST, fits, named
from evomerge.system.figures import gain, mean_text, percentage

LOST = "bold red"
"""The style of what is lost; a word says it, too."""

MOST, SHOWN = 20, 12
"""With more tasks than the first number, so many with the largest losses are shown."""


def skill_table(status: Mapping[str, Any], width: int = WIDEST) -> Table:
    """Lay out the best merge, the parents and the average task by task, as much of it as the output is wide.

    That is: all models with the intervals of their scores; all models; the best parent of each task and the average;
    the best parent alone.

    Args:
        status: as `evomerge.api.status` returns it, with `skills`.
        width: of the output, in columns.
    """
    baselines = status["baselines"]
    others = [row for row in baselines if not row.get("parent")]
    tables = [
        _table(status, baselines, all_models=True, intervals=True),
        _table(status, baselines, all_models=True, intervals=False),
        _table(status, others, all_models=False, intervals=False),
        _table(status, [], all_models=False, intervals=False),
    ]
    return next((table for table in tables if fits(table, width)), tables[-1])


def _table(
    status: Mapping[str, Any], models: Sequence[Mapping[str, Any]], *, all_models: bool, intervals: bool
) -> Table:
    skills = list(status["skills"])
    table = Table(title=named(_title(skills)))
    heads = ["task", "best merge", *(row["name"] for row in models), "best parent", "gain over it [95 %]"]
    for head in heads:
        left = head == "task" or (head == "best parent" and all_models)
        table.add_column(named(head), justify="left" if left else "right")
    for one in _most_telling(skills):
        style = LOST if one["lost"] else ""
        word = f" {loss_word(one)}" if one["lost"] else ""
        own = _score(status["best"], one, intervals) + word
        parent = str(one["best_parent"] or "–")
        if not all_models and one["n"]:
            parent = f"{mean_text(one['parent_mean'], one['share'])} {parent}"
        change = gain(one).strip().replace(" points", "") if one["n"] else "–"
        cells = (named(_score(row, one, intervals)) for row in models)
        table.add_row(named(one["task"], style), named(own, style), *cells, named(parent), named(change, style))
    return table


def loss_word(one: Mapping[str, Any]) -> str:
    """Return "lost" for a lost skill of which less than half is left, else "worse"."""
    return "lost" if one["kept"] is not None and one["kept"] < 0.5 else "worse"


def _title(skills: Sequence[Mapping[str, Any]]) -> str:
    """Return the title: which items, and how many of the tasks are shown."""
    splits = sorted({str(one["split"]) for one in skills})
    counts = sorted({int(one["n"]) for one in skills})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    title = f"task by task, {n} {' or '.join(splits)} items each"
    return title if len(skills) <= MOST else f"{title}; {SHOWN} of {len(skills)}, the largest losses first"


def _most_telling(skills: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield all skills in order or, of many, those with the largest losses: lost ones first."""
    if len(skills) <= MOST:
        yield from skills
        return
    unknown = float("inf")
    order = sorted(skills, key=lambda one: (not one["lost"], unknown if one["n"] == 0 else one["difference"]))
    yield from order[:SHOWN]


def _score(row: Mapping[str, Any], one: Mapping[str, Any], interval: bool) -> str:
    """Return a model's score in the task of a skill, on the skill's items."""
    score = row["tasks"][one["task"]][one["split"]]
    if score is None:
        return "–"
    mean = mean_text(score["mean"], one["share"])
    if not interval:
        return mean
    bound = percentage if one["share"] else "{:.4g}".format
    return f"{mean} [{bound(score['low'])}, {bound(score['high'])}]"
