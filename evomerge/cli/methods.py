"""`evomerge methods`: the merge methods, and what each asks for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evomerge.cli.console import make_console, named, print_hanging, print_table
from evomerge.cli.streams import say_json
from evomerge.system.text import condition, value_word


def run(words: Sequence[str]) -> int:
    """List the merge methods by topic, or explain one of them."""
    parser = argparse.ArgumentParser(
        prog="evomerge methods", description="The merge methods by topic, or all about one of them."
    )
    parser.add_argument(
        "method", nargs="?", help="to be explained: a name, or one of your own as my_file.py:METHOD; none: all"
    )
    parser.add_argument("--json", action="store_true", help="a JSON list of all methods, or the one as an object")
    arguments = parser.parse_args(words)

    from evomerge import api

    if arguments.method is not None:
        found = api.method(arguments.method)
        say_json(found) if arguments.json else _explain(make_console(), found)
        return 0
    methods = api.methods()
    if arguments.json:
        say_json(methods)
        return 0
    console = make_console()
    for topic, group in groupby(methods, key=lambda one: one["topic"]):
        print_table(console, _table(topic, list(group)))
    console.print(Text("`evomerge methods NAME` explains one: its formula, parameters, notes and paper."))
    return 0


def _table(topic: str, methods: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=named(topic), title_justify="left")
    for column in ("method", "parents", "base", "what it does, and its parameters"):
        table.add_column(column)
    for method in methods:
        base = {"always": "yes", "sometimes": "maybe", "never": ""}[method["base"]]
        names = ", ".join(one["name"] for one in method["parameters"])
        said = named(method["summary"])
        if names:
            said.append("\n").append(named(names, "cyan"))
        table.add_row(named(method["name"]), _parents(method), base, said)
    return table


def _base(method: Mapping[str, Any]) -> str:
    if method["base"] == "sometimes":
        asked = " or ".join(f"{name}: {word}" for name, words in method["base_with"].items() for word in words)
        return f"with {asked or 'some values of its parameters'}"
    return "yes" if method["base"] == "always" else "no"


def _parents(method: Mapping[str, Any]) -> str:
    low, high = method["n_parents"]
    return f"{low}" if low == high else f"{low}–{high}" if high is not None else f"{low} …"


def _explain(console: Console, method: Mapping[str, Any]) -> None:
    lines = {
        "result": method["formula"],
        "parents": _parents(method).replace(" …", " or more"),
        "base": _base(method),
        "topic": method["topic"],
        "paper": method["paper"],
        "notes": method["notes"],
    }
    print_hanging(console, named(f"{method['name']}: ", "bold"), Text(method["summary"]))
    for label, text in lines.items():
        if text:
            print_hanging(console, Text(f"  {label:8} "), Text(text))
    if method["parameters"]:
        print_table(console, _parameters(method["parameters"]))


def _parameters(parameters: Sequence[Mapping[str, Any]]) -> Table:
    table = Table()
    for column in ("parameter", "default", "range", "one for", "searched", "what it does"):
        table.add_column(column)
    for one in parameters:
        where = "group" if one["scope"] == "group" and one["in_groups"] else "model"
        each = f"parent and {where}" if one["per_parent"] else where
        where_counts = condition(one["when"])
        doc = f"{one['doc']}{'; ' if one['doc'] else ''}counts where {where_counts}" if where_counts else one["doc"]
        searched = "yes" if one["gene"] else "if named"
        table.add_row(*map(named, (one["name"], value_word(one["default"]), _range(one), each, searched, doc)))
    return table


def _range(parameter: Mapping[str, Any]) -> str:
    if parameter["kind"] == "choice":
        return ", ".join(parameter["choices"])
    if parameter["kind"] == "flag":
        return "true, false"
    scale = {"integer": ", whole", "float": ", log" if parameter["log"] else ""}[parameter["kind"]]
    return f"{parameter['low']:g} … {parameter['high']:g}{scale}"
