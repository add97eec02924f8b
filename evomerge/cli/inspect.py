"""`evomerge inspect`: what models are, and whether they are of one ancestry."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from evomerge.cli.console import make_console, named, print_hanging, print_table
from evomerge.cli.notes import say_note
from evomerge.cli.quiet import add_quiet
from evomerge.cli.streams import say_json

_SHORT = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float64": "fp64"}


_FIGURES = """\
correlation: of a model's weights with the base's (1: alike; 0: another start)
moved by: the size of what was added to the base, relative to the base
far out: matrices that moved more than 5 times as far as the others"""
_APART = """\
correlation: of the weights of both (1: alike; 0: another start)
apart by: the size of their difference, relative to the second one"""
"""What the columns of the table of ancestry mean."""


def run(words: Sequence[str]) -> int:
    """Print tables about models and how they are related, then what to bear in mind."""
    parser = argparse.ArgumentParser(
        prog="evomerge inspect",
        description="What models are (architecture, shapes, tokenizer, chat template, licence), and whether they are "
        "of one ancestry: how far each moved from the base, and how alike their task vectors are. Reads headers and "
        "samples of the weights only.",
    )
    parser.add_argument(
        "model",
        nargs="+",
        help="a folder, Hub id, GGUF file, zoo:NAME, recipe file, run (its parents and base), or as in a recipe "
        "'{path: MODEL, adapter: ADAPTER}'; NAME=MODEL gives it a name",
    )
    parser.add_argument("--base", help="the model from which task vectors are measured")
    parser.add_argument(
        "--download",
        action="store_true",
        help="download the weights of Hub models that are not here; without them, headers answer, but not on ancestry",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_quiet(parser)
    arguments = parser.parse_intermixed_args(words)

    from evomerge import api

    found = api.inspect(arguments.model, base=arguments.base, download=arguments.download, note=say_note)
    if arguments.json:
        say_json(found)
        return 0
    console = make_console()
    print_table(console, _models(found))
    for one in found["models"]:
        if one["storage"] is not None and not one["storage"].startswith("safetensors"):
            print_hanging(console, named(f"{one['name']}: "), named(one["storage"]))
    print_table(console, _belongings(found))
    if found["pairs"]:
        print_table(console, _ancestry(found) if found["base"] is not None else _pairs(found))
        console.print(_FIGURES if found["base"] is not None else _APART, highlight=False, soft_wrap=True)
    if any(pair["cosine"] is not None for pair in found["pairs"]):
        print_table(console, _deltas(found))
    for one in found["warnings"]:
        print_hanging(console, Text("warning: "), Text(one["text"]))
    if not found["warnings"] and found["pairs"]:
        console.print(_kin(found), highlight=False, soft_wrap=True)
    return 0


def _kin(found: Mapping[str, Any]) -> str:
    """Return what to conclude where nothing speaks against it."""
    *most, last = found["ancestry"]
    names = f"{', '.join(most)} and {last}" if most else last
    were = "were" if most else "was"
    if found["base"] is None:
        return f"{names} were made from the same weights"
    base = "the base" if found["base"] == "base" else found["base"]
    return f"{names} {were} fine-tuned from {base}"


def _table(title: str, *columns: str) -> Table:
    """Return a table whose columns but the first are numbers or short words."""
    table = Table(title=named(title))
    for i, column in enumerate(columns):
        table.add_column(named(column), justify="left" if i == 0 else "right")
    return table


def _models(found: Mapping[str, Any]) -> Table:
    table = _table("models", "model", "architecture", "layers", "hidden", "vocabulary", "parameters", "type")
    for one in found["models"]:
        size = one["parameters"]
        shown = f"{size / 1e9:.1f} B" if size >= 1e9 else f"{size / 1e6:.1f} M" if size >= 1e5 else str(size)
        cells = (one["architecture"], one["layers"], one["hidden_size"], one["vocabulary"], shown)
        table.add_row(_who(one["name"], found), *map(_cell, cells), _SHORT.get(one["dtype"], one["dtype"]))
    return table


def _belongings(found: Mapping[str, Any]) -> Table:
    table = _table("what belongs to them (the same letter: the same)", "model", "tokenizer", "chat template", "licence")
    letters: dict[str, dict[str, str]] = {"tokenizer": {}, "chat_template": {}}
    for one in found["models"]:
        cells = []
        for key, known in letters.items():
            digest = one[key]
            cells.append("none" if digest is None else known.setdefault(digest, _letter(len(known))))
        table.add_row(_who(one["name"], found), *cells, _cell(one["licence"] or "not said"))
    return table


def _ancestry(found: Mapping[str, Any]) -> Table:
    table = _table(
        f"ancestry: each against {found['base']}",
        *("model", "ancestry", "correlation", "moved by", "equal tensors", "far out"),
    )
    verdicts = found["ancestry"]
    for pair in found["pairs"]:
        if pair["b"] == found["base"]:
            table.add_row(named(pair["a"]), verdicts[pair["a"]], *_numbers(pair), str(len(pair["outliers"])))
    return table


def _pairs(found: Mapping[str, Any]) -> Table:
    table = _table("ancestry: each pair", "models", "ancestry", "correlation", "apart by", "equal tensors")
    for pair in found["pairs"]:
        table.add_row(named(f"{pair['a']}, {pair['b']}"), pair["verdict"], *_numbers(pair))
    return table


def _deltas(found: Mapping[str, Any]) -> Table:
    table = _table("task vectors", "models", "cosine", "equal signs", "difference")
    for pair in found["pairs"]:
        if pair["b"] != found["base"]:
            cells = (_two(pair["cosine"]), _percent(pair["sign_agreement"]), _percent(pair["delta_difference"]))
            table.add_row(named(f"{pair['a']}, {pair['b']}"), *cells)
    return table


def _numbers(pair: Mapping[str, Any]) -> tuple[str, str, str]:
    return _two(pair["correlation"]), _percent(pair["distance"]), _percent(pair["equal_tensors"])


def _who(name: str, found: Mapping[str, Any]) -> Any:
    return named(f"{name} (base)" if name == found["base"] and name != "base" else name)


def _cell(value: Any) -> Any:
    return named("–" if value is None else value)


def _letter(n: int) -> str:
    return chr(ord("A") + n) if n < 26 else str(n + 1)


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-0.00", "0.00")


def _percent(value: float | None) -> str:
    return (
        "–"
        if value is None
        else "0 %"
        if value == 0
        else f"{100 * value:.2g} %"
        if value < 0.995
        else f"{100 * value:.0f} %"
    )
