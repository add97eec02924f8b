"""`evomerge status`: where a run stands, also while another process runs it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from evomerge.cli.display import percent, result_table, verdict_lines


def run(words: Sequence[str]) -> int:
    """Print where a run stands."""
    parser = argparse.ArgumentParser(prog="evomerge status", description="Where a run stands.")
    parser.add_argument("run", type=Path, help="the run folder, outputs/<name>/<time>")
    parser.add_argument("--json", action="store_true", help="one JSON object with stable keys")
    arguments = parser.parse_args(words)

    from evomerge import api
    from evomerge.verdict import warnings_of

    status = api.status(arguments.run)
    if arguments.json:
        print(json.dumps(status, indent=2, ensure_ascii=False))
        return 0
    budget = ", ".join(f"{value:g} {key}" for key, value in status["budget"].items() if value is not None)
    console = Console()
    console.print(f"{status['name']}: [bold]{status['state']}[/bold]  ({status['path']})", soft_wrap=True)
    console.print(
        f"  {status['candidates']} candidates ({status['failed']} failed, {status['cache_hits']} repeated), "
        f"{status['items']} items, {status['seconds']:.0f} s; budget: {budget}"
    )
    if status["error"]:
        console.print(f"  last error: {status['error']}")
    if status["best"]:
        console.print(f"  best: {status['best']['name']}, search score {percent(status['best']['search'])}")
    console.print(result_table(status))
    for line in verdict_lines(status):
        console.print(line, highlight=False)
    for warning in warnings_of(status):
        console.print(f"note: {warning}", highlight=False)
    return 0
