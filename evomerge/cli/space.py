"""`evomerge space`: what a search would evolve, before it does."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from evomerge.cli.compose import compose
from evomerge.cli.console import make_console, named, print_table
from evomerge.cli.notes import say_note
from evomerge.cli.streams import say_json


def run(words: Sequence[str]) -> int:
    """List every gene of a configuration with its range and start."""
    parser = argparse.ArgumentParser(
        prog="evomerge space",
        description="List every gene with its range and start, where it counts if it does not "
        "everywhere, and say which would change nothing and are left out, since parents equal the base there.",
    )
    parser.add_argument("config", nargs="+", help="as for `evomerge search`: experiment=NAME or FILE.yaml, overrides")
    parser.add_argument("--json", action="store_true", help="a JSON list of genes")
    arguments = parser.parse_args(words)

    from evomerge import api

    config = compose(arguments.config)
    genes = api.space(config, note=say_note)
    if arguments.json:
        say_json(genes)
        return 0
    for stage in dict.fromkeys(gene["stage"] for gene in genes):
        # A search without stages has one, whose name is nobody's choice.
        name = config.get("name", "search")
        title = f"{name}, stage {stage}" if config.get("stages") else name
        print_table(make_console(), _table(title, [gene for gene in genes if gene["stage"] == stage]))
    return 0


def _table(title: str, genes: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=named(f"{title}: {len(genes)} genes"))
    sleeps = any(gene["when"] for gene in genes)
    for column in ("gene", "low", "high", "start", "scale", *(["counts where"] if sleeps else [])):
        table.add_column(column, justify="right" if column in ("low", "high", "start") else "left")
    for gene in genes:
        words = gene["choices"] or None
        if words is None:
            numbers = [f"{gene[key]:g}" for key in ("low", "high", "start")]
        else:
            numbers = ["", "", words[int(gene["start"])]]  # words have no order, so no range
        kind = ("log" if gene["log"] else "linear") if gene["kind"] == "float" else gene["kind"]
        cells = (gene["name"], *numbers, kind if words is None else f"one of {', '.join(words)}")
        cells = (*cells, gene["when"]) if sleeps else cells
        table.add_row(*map(named, cells))
    return table
