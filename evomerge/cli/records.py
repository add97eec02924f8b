"""`evomerge records`: every candidate of a run, one JSON line each, or their answers as a matrix."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evomerge.cli.streams import say, say_json


def run(words: Sequence[str]) -> int:
    """Print one JSON line per candidate, in order of proposal."""
    parser = argparse.ArgumentParser(prog="evomerge records", description="One JSON line per candidate of a run.")
    parser.add_argument("run", type=Path, help="the run folder, outputs/<name>/<time>")
    parser.add_argument("--baselines", action="store_true", help="also the parents and the average, first")
    parser.add_argument(
        "--responses", type=Path, metavar="FILE.npz", help="write who answered which item how, and print no records"
    )
    arguments = parser.parse_args(words)

    from evomerge import api

    if arguments.responses is not None:
        found = api.responses(arguments.run)
        path = found.save(arguments.responses)
        say(f"{path}: {len(found.models)} models, {len(found.items)} items")
        return 0
    for record in api.records(arguments.run, baselines=arguments.baselines):
        say_json(record.to_data(), indent=None)
    return 0
