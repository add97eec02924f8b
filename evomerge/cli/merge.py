"""`evomerge merge`: a recipe in, a Hugging Face folder out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evomerge.cli.notes import say_note
from evomerge.cli.quiet import add_quiet
from evomerge.cli.steps import steps
from evomerge.cli.streams import say


def run(words: Sequence[str]) -> int:
    """Build the model of a recipe on disk."""
    parser = argparse.ArgumentParser(prog="evomerge merge", description="Build the model of a recipe on disk.")
    parser.add_argument("recipe", type=Path, help="the YAML file of a recipe, evomerge's or mergekit's")
    parser.add_argument("out", type=Path, help="the folder to write; must not exist or be empty")
    parser.add_argument("--shard-gb", type=float, default=5.0, help="largest weight file, in GB (default 5)")
    parser.add_argument(
        "--save-state", type=Path, metavar="DIR", help="also write the state of a merge by opcm, to continue it later"
    )
    parser.add_argument(
        "--continue-from",
        type=Path,
        metavar="DIR",
        help="go on from such a state with the models that it has not seen; the others need not exist any more",
    )
    add_quiet(parser)
    arguments = parser.parse_args(words)

    from evomerge import api

    with steps("merging") as progress:
        out = api.merge(
            arguments.recipe,
            arguments.out,
            shard_size=int(arguments.shard_gb * 1e9),
            progress=progress,
            save_state=arguments.save_state,
            continue_from=arguments.continue_from,
            note=say_note,
        )
    say(f"wrote {out}")
    if arguments.save_state is not None:
        say(f"the state of the merge is in {arguments.save_state}; continue it with --continue-from")
    return 0
