"""`evomerge status`: where a run stands, even while another process runs it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from evomerge.cli.console import make_console
from evomerge.cli.display import percent, result_tables, verdict_lines, worker_table


def run(words: Sequence[str]) -> int:
    """Print where a run stands."""
    parser = argparse.ArgumentParser(prog="evomerge status", description="Where a run stands.")
    parser.add_argument("run", type=Path, help="the run folder, outputs/<name>/<time>")
    parser.add_argument("--json", action="store_true", help="one JSON object with stable keys")
    arguments = parser.parse_args(words)

    from evomerge import api

    found = api.Run(arguments.run)
    status = found.status()
    if arguments.json:
        print(json.dumps(status, indent=2, ensure_ascii=False))
        return 0
    budget = ", ".join(f"{value:g} {key}" for key, value in status["budget"].items() if value is not None)
    console = make_console()
    state = Text(status["state"], "bold")
    console.print(Text.assemble(f"{status['name']}: ", state, f"  ({status['path']})"), soft_wrap=True)
    console.print(
        f"  {status['candidates']} candidates ({status['failed']} failed, {status['cache_hits']} repeated), "
        f"{status['items']} items, {status['seconds']:.0f} s; budget: {budget}"
    )
    if status["state"] == "running" and status["per_minute"]:
        left = "" if status["seconds_left"] is None else f", about {_duration(status['seconds_left'])} left"
        console.print(f"  {status['per_minute']:.1f} candidates a minute{left}", highlight=False)
    if status["error"]:
        console.print(f"  last error: {status['error']}")
    if status["best"]:
        console.print(f"  best: {status['best']['name']}, search score {percent(status['best']['search'])}")
    if status["workers"] is not None and status["state"] == "running":
        console.print(worker_table(status))
    for table in result_tables(status):
        console.print(table)
    for line in verdict_lines(status):
        console.print(line, highlight=False)
    for warning in found.warnings(status):
        console.print(f"note: {warning}", highlight=False)
    return 0


def _duration(seconds: float) -> str:
    """Return "2 h 05 min", "7 min" or "40 s"."""
    minutes = round(seconds / 60.0)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 60.0 else f"{seconds:.0f} s"
