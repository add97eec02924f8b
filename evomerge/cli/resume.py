"""`evomerge resume`: continue a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evomerge.cli.running import resume_search
from evomerge.errors import ConfigError

LIMITS = {"candidates": int, "items": int, "seconds": float}


def run(words: Sequence[str]) -> int:
    """Continue a run after an interruption, or with a larger budget."""
    parser = argparse.ArgumentParser(prog="evomerge resume", description="Continue a run exactly where it was.")
    parser.add_argument("run", type=Path, help="the run folder, outputs/<name>/<time>")
    parser.add_argument("budget", nargs="*", help="a larger budget: budget.candidates=200 (or items, seconds)")
    arguments = parser.parse_args(words)
    return resume_search(arguments.run, dict(map(_limit, arguments.budget)))


def _limit(word: str) -> tuple[str, float | int]:
    key, _, value = word.removeprefix("budget.").partition("=")
    if key not in LIMITS:
        raise ConfigError(
            f"resume takes budget.candidates=, budget.items= and budget.seconds=, not {word!r}; "
            "whatever else differs is another search: start it with `evomerge search`"
        )
    try:
        return key, LIMITS[key](value)
    except ValueError:
        raise ConfigError(f"budget.{key} must be a number, but came {value!r}") from None
