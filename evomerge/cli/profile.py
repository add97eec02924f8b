"""`evomerge profile`: where the time of a candidate goes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from evomerge.cli.compose import compose
from evomerge.cli.console import make_console, named, print_table
from evomerge.cli.notes import say_note
from evomerge.cli.quiet import add_quiet
from evomerge.cli.steps import steps
from evomerge.cli.streams import say_json

_WORDS = {"decode_genome": "decode genome", "engine": "around the passes"}


def run(words: Sequence[str]) -> int:
    """Time a few candidates of a configuration."""
    parser = argparse.ArgumentParser(
        prog="evomerge profile",
        description="Run a few candidates of a configuration, after one that warms up, and say where the time goes. "
        "No run folder is left.",
    )
    parser.add_argument("config", nargs="+", help="as for `evomerge search`: experiment=NAME or FILE.yaml, overrides")
    parser.add_argument("--candidates", type=int, default=3, help="how many are timed in each stage (default 3)")
    parser.add_argument("--json", action="store_true", help="one JSON object with stable keys")
    add_quiet(parser)
    arguments = parser.parse_intermixed_args(words)

    from evomerge import api

    with steps("candidates") as progress:
        config = compose(arguments.config)
        found = api.profile(config, candidates=arguments.candidates, progress=progress, note=say_note)
    if arguments.json:
        say_json(found)
        return 0
    console = make_console()
    threads = f"{found['threads']} thread{'s' * (found['threads'] != 1)}"
    console.print(
        f"{found['name']}: {found['items']} items a candidate, {found['device']}, {found['dtype']}, "
        f"{threads}, engine {found['engine']}; memory: {found['memory_bandwidth'] / 1e9:.1f} GB/s",
        highlight=False,
        soft_wrap=True,
    )
    for stage in found["stages"]:
        print_table(console, _table(stage))
        console.print(_closing(stage), highlight=False, soft_wrap=True)
    console.print(found["plan"]["text"], highlight=False, soft_wrap=True)
    return 0


def _table(stage: Mapping[str, Any]) -> Table:
    total = stage["seconds"]["total"]
    table = Table(title=named(f"{stage['name']} ({stage['space']}): mean of {stage['candidates']} candidates"))
    table.add_column("part")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    table.add_column("at")
    for part, share in stage["share"].items():
        unseen = part == "engine" and stage["share_outside_passes"] is None
        table.add_row(
            "engine, passes and all" if unseen else _WORDS.get(part, part),
            _milliseconds(stage["seconds"][part]),
            f"{100 * share:.1f} %",
            _speed(stage, part),
        )
    table.add_section()
    table.add_row("a candidate", _milliseconds(total), "100 %", f"{stage['candidates_per_minute']:.1f} a minute")
    return table


def _speed(stage: Mapping[str, Any], part: str) -> str:
    if part == "merge":
        merge = stage["merge"]
        tensors = f"{merge['tensors_written']:.0f} of {merge['tensors']:.0f} tensors rewritten"
        if not merge["bytes"]:
            return tensors
        return (
            f"{tensors}, {_size(merge['bytes'])}: {merge['bytes_per_second'] / 1e9:.2f} GB/s, "
            f"{100 * merge['share_of_memory_bandwidth']:.0f} % of the memory's"
        )
    if part in ("prefill", "decode") and stage[part]["passes"]:
        passes = stage[part]
        return (
            f"{passes['passes']:.0f} passes, {passes['tokens']:.0f} tokens: {passes['tokens_per_second']:.0f} a second"
        )
    return ""


def _closing(stage: Mapping[str, Any]) -> str:
    outside = stage["share_outside_passes"]
    said = [
        *([] if outside is None else [f"outside of forward passes: {100 * outside:.1f} %"]),
        f"warming up took {stage['warm_up']['total']:.2f} s",
        f"{stage['proposals']} proposals, {stage['cache_hits']} of them scored before",
    ]
    if stage["failed"]:
        said.append(f"{stage['failed']} failed and are not counted")
    return "; ".join(said)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}" if seconds >= 0.001 else f"{1000 * seconds:.3f}"


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
