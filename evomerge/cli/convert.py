"""`evomerge convert`: a recipe of mergekit as one of ours, or one of ours as mergekit's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from evomerge.cli.streams import say


def run(words: Sequence[str]) -> int:
    """Translate a recipe; which way, is told by what the file is."""
    parser = argparse.ArgumentParser(
        prog="evomerge convert",
        description="Write a mergekit YAML as a recipe of evomerge, or a recipe of evomerge as a mergekit YAML. "
        "What cannot be expressed is named, and nothing is written then.",
    )
    parser.add_argument("source", metavar="IN", help="a mergekit YAML, or a recipe of evomerge")
    parser.add_argument("out", metavar="OUT", help="the file to write; - prints it")
    parser.add_argument("--force", action="store_true", help="replace OUT if it is there")
    arguments = parser.parse_args(words)

    from evomerge import api

    printed = arguments.out == "-"
    text = api.convert(arguments.source, None if printed else arguments.out, force=arguments.force)
    say(text.rstrip("\n") if printed else f"wrote {arguments.out}")
    return 0
