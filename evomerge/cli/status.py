"""`evomerge status`: where a run stands, even while another process runs it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from evomerge.api import Moment
from evomerge.cli.console import make_console, named, print_hanging, print_table
from evomerge.cli.live.best import best
from evomerge.cli.live.budget import budget, pace
from evomerge.cli.live.head import parts
from evomerge.cli.live.marks import marks_for
from evomerge.cli.streams import say_json
from evomerge.cli.tables import (
    NOTE,
    VERDICT,
    answers_command,
    result_tables,
    verdict_line,
    verdict_lines,
    worker_table,
)
from evomerge.cli.top import watch
from evomerge.system.text import ERROR_LENGTH, command, cut


def run(words: Sequence[str]) -> int:
    """Print where a run stands."""
    parser = argparse.ArgumentParser(prog="evomerge status", description="Where a run stands.")
    parser.add_argument("run", type=Path, help="the run folder, outputs/<name>/<time>")
    parser.add_argument("--json", action="store_true", help="one JSON object with stable keys")
    parser.add_argument("--watch", action="store_true", help="live, until it ends or q is pressed (`evomerge top`)")
    arguments = parser.parse_args(words)
    if arguments.watch:
        if arguments.json:
            parser.error("--json is of one moment, --watch of many")
        return watch(arguments.run)

    from evomerge import api

    found = api.Run(arguments.run)
    status = found.status()
    if arguments.json:
        say_json(status)
        return 0
    console = make_console()
    with api.watch(arguments.run) as eyes:
        _print_moment(console, eyes.look(), status)
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


def _print_moment(console: Console, moment: Moment, status: Mapping[str, Any]) -> None:
    """Print the blocks of the live view that are not in the tables below."""
    marks, width = marks_for(console), console.width
    state = named(status["state"], "bold")
    console.print(Text.assemble(named(status["name"]), ": ", state, named(f"  ({status['path']})")), soft_wrap=True)
    if moment.doubt is not None:
        console.print(Text(f"  {moment.doubt}", "yellow"), soft_wrap=True)
    limits = ", ".join(f"{one.spent:,.0f} of {one.most:,.0f} {one.key}" for one in moment.limits)
    console.print(
        f"  {status['candidates']} candidates ({status['failed']} failed, {status['cache_hits']} repeated), "
        f"{status['items']} items, {status['seconds']:.0f} s; budget: {limits or 'none'}"
    )
    if not moment.ended:
        for line in (*budget(moment, width, marks), *pace(moment, width, marks), *parts(moment, width, marks)):
            if line:
                console.print(Text("  ") + line, soft_wrap=True)
    if status["error"]:
        console.print(f"  last error: {cut(status['error'], ERROR_LENGTH)}")
    if moment.best is not None:
        for line in best(moment, width, marks):
            console.print(Text("  ") + line, soft_wrap=True)
