"""`evomerge merge`: a recipe in, a Hugging Face folder out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evomerge.cli.steps import steps
from evomerge.cli.streams import say


def run(words: Sequence[str]) -> int:
    """Build the model of a recipe on disk."""
    parser = argparse.ArgumentParser(prog="evomerge merge", description="Build the model of a recipe on disk.")
    parser.add_argument("recipe", type=Path, help="a recipe YAML file")
    parser.add_argument("out", type=Path, help="the folder to write; must not exist or be empty")
    parser.add_argument("--shard-gb", type=float, default=5.0, help="largest weight file, in GB (default 5)")
    arguments = parser.parse_args(words)

    from evomerge import api

    with steps("merging") as progress:
        out = api.merge(arguments.recipe, arguments.out, shard_size=int(arguments.shard_gb * 1e9), progress=progress)
    say(f"wrote {out}")
    return 0
