"""`evomerge show`: the layer path of a run's best merge, or of a recipe, as a picture and as one line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evomerge.cli.streams import say


def run(words: Sequence[str]) -> int:
    """Write the picture of a layer path and print the path."""
    parser = argparse.ArgumentParser(
        prog="evomerge show",
        description="Draw a layer path as SVG and PNG: steps from left to right, the depth in the parent upwards.",
    )
    parser.add_argument("target", metavar="RUN|RECIPE", help="a run folder (its best merge), or a recipe file")
    parser.add_argument("--candidate", type=int, metavar="N", help="of the run; its best if left out")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="STEM",
        help="write STEM.svg and STEM.png; in the run, or beside the recipe, if left out",
    )
    arguments = parser.parse_args(words)

    from evomerge import api

    shown = api.show(arguments.target, candidate=arguments.candidate, out=arguments.out)
    say(shown.text)
    say(f"wrote {shown.svg} and {shown.png}")
    return 0
