"""`evomerge estimate`: scores of models on all items from their answers to a few."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evomerge.cli.console import make_console, named, print_table
from evomerge.cli.streams import say_json
from evomerge.errors import EstimationError
from evomerge.system.files import read_text
from evomerge.system.text import visible

SHOWN = 10
"""Most items that are listed in the terminal."""


def run(words: Sequence[str]) -> int:
    """Reveal a few responses of each target and print its estimated score with its interval."""
    parser = argparse.ArgumentParser(
        prog="evomerge estimate",
        description="Estimate the mean score of target models over all items from N of their responses. The estimator "
        "is fitted on the calibration models; items are chosen from their responses and answers already revealed.",
    )
    parser.add_argument(
        "--responses", required=True, help="response matrix: .npz, .csv, .parquet, or lm-eval sample logs"
    )
    parser.add_argument("--calibration", required=True, help="text file with the calibration models, one name a line")
    parser.add_argument("--targets", required=True, help="text file with the models to estimate, one name a line")
    parser.add_argument("--items", required=True, type=int, metavar="N", help="responses of each target to reveal")
    parser.add_argument("--task", help="use only items named TASK/...")
    parser.add_argument(
        "--select", default="adaptive", help="which items: adaptive (default), fisher, greedy, anchors …"
    )
    parser.add_argument(
        "--estimator", default="mixture", help="mixture (default), mean, ridge, p-irt, gp-irt, mp-irt …"
    )
    parser.add_argument("--parents", help="JSON file, {target: [names of its parents]}; their rows are used in full")
    parser.add_argument("--metric", help="metric to read from lm-eval sample logs")
    parser.add_argument("--level", type=float, default=0.9, help="of the interval (default 0.9)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object; scores between 0 and 1")
    arguments = parser.parse_args(words)
    if not 0 < arguments.level < 1:
        raise EstimationError(f"--level lies between 0 and 1; got {arguments.level}")

    from evomerge import api

    calibration = _names(arguments.calibration)
    responses = api.read_responses(arguments.responses, metric=arguments.metric)
    found = api.estimate(
        responses,
        calibration=calibration,
        targets=_names(arguments.targets),
        items=arguments.items,
        task=arguments.task,
        select=arguments.select,
        estimator=arguments.estimator,
        parents=_parents(arguments.parents) if arguments.parents else None,
        level=arguments.level,
        seed=arguments.seed,
        note=lambda text: print(f"evomerge: {visible(text, lines=True)}", file=sys.stderr),
    )
    negative = api.negative_items(responses, models=calibration, task=arguments.task)
    if arguments.json:
        head = {"estimator": arguments.estimator, "select": arguments.select, "n_items": arguments.items}
        told = {**head, "seed": arguments.seed, "level": arguments.level, "targets": found, "negative_items": negative}
        say_json(told)
        return 0
    table = Table("target", "estimate", "standard error", f"{100 * arguments.level:g} % interval", "items")
    for name, one in found.items():
        low, high = one["interval"]
        interval = f"{100 * low:.1f} to {100 * high:.1f} %"
        shown = f"{100 * one['estimate']:.1f} %", f"{100 * one['standard_error']:.1f}"
        table.add_row(named(name), *shown, interval, str(len(one["items"])))
    console = make_console()
    print_table(console, table)
    if negative["items"]:
        _show_negative(console, negative)
    return 0


def _show_negative(console: Console, negative: Mapping[str, Any]) -> None:
    """Print the items that better models fail more often."""
    items, tested = negative["items"], negative["tested"]
    share = f"{len(items)} of {tested} items ({100 * len(items) / tested:.1f} %)"
    print(f"\nbetter calibration models fail {share} more often than worse ones:")
    print("likely a wrong key, or a question that can be read in two ways")
    table = Table("item", "discrimination", "right", "models")
    for one in items[:SHOWN]:
        table.add_row(
            named(one["item"]), f"{one['discrimination']:.2f}", f"{100 * one['right']:.0f} %", str(one["models"])
        )
    print_table(console, table)
    if len(items) > SHOWN:
        print(f"and {len(items) - SHOWN} more: --json lists all")


def _names(path: str) -> list[str]:
    lines = read_text(Path(path), "the model names in", EstimationError).splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise EstimationError(f"{path} names no model: expected one name a line")
    return names


def _parents(path: str) -> dict[str, list[str]]:
    """Read the names of the parents by target."""
    text = read_text(Path(path), "the parents in", EstimationError)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EstimationError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in data.values()
    ):
        raise EstimationError(f"{path} must be a JSON object, {{target: [names of its parents]}}")
    return data
