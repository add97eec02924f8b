"""The table of how answers degenerate: the best merge beside parents and average, task by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from evomerge.cli.console import WIDEST, fits, named
from evomerge.system.figures import fixed, gain, mean_text

MOST = 20
"""So many rows are shown, of more those that are furthest beyond their intervals."""

WORSE = "bold red"
"""The style of what is worse than with the best parent beyond its interval; a word says it, too."""

Row = Mapping[str, Any]


def degeneration_table(status: Mapping[str, Any], width: int = WIDEST) -> Table | None:
    """Lay out the measures that are not 0 for both the best merge and the best parent; None where all are.

    Args:
        status: as `evomerge.api.status` returns it.
        width: of the output, in columns; where it is too narrow for all models, only the best parent is shown.
    """
    rows = [one for one in status.get("degeneration") or () if one["best"] or one["parent"]]
    if not rows:
        return None
    whole = _table(rows, status["baselines"])
    return whole if fits(whole, width) else _table(rows, [])


def _table(rows: Sequence[Row], models: Sequence[Mapping[str, Any]]) -> Table:
    shown = rows
    if len(rows) > MOST:
        furthest = sorted(rows, key=lambda one: (not one["share"], -one["low"], -one["best"]))[:MOST]
        shown = [one for one in rows if one in furthest]
    counts = sorted({int(one["n"]) for one in rows})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    splits = " or ".join(sorted({str(one["split"]) for one in rows}))
    part = f"; {len(shown)} of {len(rows)}" if len(shown) < len(rows) else ""
    table = Table(title=named(f"answers to {n} {splits} items each, less is better{part}"))
    heads = ("task", "answers", "best merge", *(row["name"] for row in models), "best parent", "more by [95 %]")
    for head in heads:
        table.add_column(named(head), justify="left" if head in ("task", "answers") else "right")
    for one in shown:
        worse = one["share"] and one["low"] > 0.0
        style = WORSE if worse else ""
        parent = str(one["against"]) if models else f"{_number(one['parent'], one)} {one['against']}"
        cells = ("–" if (mean := _mean(row, one)) is None else _number(mean, one) for row in models)
        table.add_row(
            named(one["task"], style),
            str(one["measure"]).replace("_", " ").removesuffix(" answers").removeprefix("generated "),
            named(_number(one["best"], one) + (" more" if worse else ""), style),
            *cells,
            named(parent),
            named(_more(one), style),
        )
    return table


def _number(mean: float, one: Row) -> str:
    """Return a share in per cent, or a number of tokens with one digit after the point."""
    return mean_text(mean, True) if one["share"] else fixed(mean, 1)


def _more(one: Row) -> str:
    if one["share"]:
        return gain(one).strip().replace(" points", "")
    return f"{fixed(one['difference'], 1, signed=True)} [{fixed(one['low'], 1)}, {fixed(one['high'], 1)}]"


def _mean(model: Mapping[str, Any], one: Row) -> float | None:
    measures = model.get("tasks", {}).get(one["task"], {}).get("measures", {})
    found: float | None = measures.get(one["measure"])
    return found
