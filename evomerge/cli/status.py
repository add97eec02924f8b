"""`evomerge status`: where a run stands, even while another process runs it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from evomerge.cli.console import make_console, named, print_hanging, print_table
from evomerge.cli.streams import say_json
from evomerge.cli.tables import (
    NOTE,
    VERDICT,
    answers_command,
    is_worst,
    percent,
    result_tables,
    verdict_line,
    verdict_lines,
    worker_table,
)
from evomerge.system.text import ERROR_LENGTH, command, cut, duration


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
        say_json(status)
        return 0
    budget = ", ".join(f"{value:g} {key}" for key, value in status["budget"].items() if value is not None)
    console = make_console()
    state = named(status["state"], "bold")
    console.print(Text.assemble(named(status["name"]), ": ", state, named(f"  ({status['path']})")), soft_wrap=True)
    console.print(
        f"  {status['candidates']} candidates ({status['failed']} failed, {status['cache_hits']} repeated), "
        f"{status['items']} items, {status['seconds']:.0f} s; budget: {budget}"
    )
    if status["state"] == "running" and status["per_minute"]:
        left = "" if status["seconds_left"] is None else f", about {duration(status['seconds_left'])} left"
        console.print(f"  {status['per_minute']:.1f} candidates a minute{left}", highlight=False)
    if status["error"]:
        console.print(f"  last error: {cut(status['error'], ERROR_LENGTH)}")
    if status["best"]:
        score = percent(status["best"]["search"], worst=is_worst(status))
        console.print(f"  best: {status['best']['name']}, search score {score}")
    if status["workers"] is not None and status["state"] == "running":
        print_table(console, worker_table(status))
    for table in result_tables(status, console.width):
        print_table(console, table)
    if not status["baselines"] and not status["best"]:
        console.print("  nothing has been scored yet")
    if status["state"] == "interrupted":
        console.print(f"  `{command('resume', status['path'])}` continues it", highlight=False, soft_wrap=True)
    for line in verdict_lines(status):
        console.print(line, highlight=False)
    for warning in found.warnings(status):
        print_hanging(console, NOTE, Text(warning))
    if (verdict := verdict_line(status)) is not None:  # at the end, where a terminal shows it
        print_hanging(console, VERDICT, verdict)
    answers = status["answers"]
    if any(answers["kept"].values()):
        left = ", ".join(f"{n} on {split} items" for split, n in answers["dropped"].items())
        size = f"{answers['bytes'] / 2**20:.1f} MiB" + (f"; {left} did not fit" if left else "")
        console.print(f"what was answered ({size}): {answers_command(status)}", highlight=False, soft_wrap=True)
    return 0
