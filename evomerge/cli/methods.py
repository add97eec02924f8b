"""`evomerge methods`: the merge methods and what each asks for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from evomerge.cli.console import make_console, named, print_table
from evomerge.cli.streams import say_json
from evomerge.system.text import visible


def run(words: Sequence[str]) -> int:
    """List the merge methods with their parameters, defaults and ranges."""
    parser = argparse.ArgumentParser(prog="evomerge methods", description="The merge methods and their parameters.")
    parser.add_argument("--json", action="store_true", help="a JSON list")
    arguments = parser.parse_args(words)

    from evomerge import api

    methods = api.methods()
    if arguments.json:
        say_json(methods)
        return 0
    table = Table()
    for column in ("method", "parents", "base", "parameter", "default", "range", "per"):
        table.add_column(column)
    for method in methods:
        low, high = method["n_parents"]
        head = [
            method["name"],
            str(low) if low == high else f"{low}–{high or '∞'}",
            "yes" if method["needs_base"] else "",
        ]
        for parameter in method["parameters"] or [None]:
            row = ["", "", "", ""]
            if parameter is not None:
                numeric = not parameter["choices"] and not isinstance(parameter["default"], bool)
                span = f"{parameter['low']:g} … {parameter['high']:g}" if numeric else "/".join(parameter["choices"])
                per = "parent" if parameter["per_parent"] else "tensor"
                row = [parameter["name"], str(parameter["default"]), span, per]
            table.add_row(*map(named, [*head, *row]))
            head = ["", "", ""]
        table.add_section()
    console = make_console()
    print_table(console, table)
    for method in methods:
        said = visible(f": {method['summary']} ({method['paper']})")
        console.print(Text.assemble(named(method["name"], "bold"), said))
    return 0
