"""`evomerge push`: the best merge of a run to the Hugging Face Hub."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evomerge.cli.streams import say


def run(words: Sequence[str]) -> int:
    """Upload the best merge of a run, or an exported folder; private unless told otherwise."""
    parser = argparse.ArgumentParser(
        prog="evomerge push",
        description="Upload a run's best merge (or an exported folder) to the Hub. The token is taken from HF_TOKEN or "
        "`hf auth login`, and never printed.",
    )
    parser.add_argument("run", type=Path, help="the run folder, or a folder made by `evomerge export`")
    parser.add_argument("repo", help="where to: org/name, or name for your own account")
    parser.add_argument("--public", action="store_true", help="make the repository public")
    parser.add_argument("--dry-run", action="store_true", help="list what would go, and send nothing")
    parser.add_argument("--no-answers", action="store_true", help="show no answers in the model card, nor their items")
    arguments = parser.parse_args(words)

    from evomerge import api

    files = api.push(
        arguments.run,
        arguments.repo,
        private=not arguments.public,
        dry_run=arguments.dry_run,
        answers=not arguments.no_answers,
    )
    visibility = "public" if arguments.public else "private"
    say(f"{'would push' if arguments.dry_run else 'pushed'} to {arguments.repo} ({visibility}):")
    for name, size in files:
        say(f"  {size:>14,} bytes  {name}")
    return 0
