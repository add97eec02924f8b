"""`evomerge resume`: continue a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evomerge.cli.quiet import add_quiet
from evomerge.cli.running import resume_search
from evomerge.errors import ConfigError
from evomerge.system.yaml_text import YamlError, read_yaml

LIMITS = {"candidates": int, "items": int, "seconds": float}


def run(words: Sequence[str]) -> int:
    """Continue a run after an interruption, with a larger budget, or with other settings that concern speed."""
    parser = argparse.ArgumentParser(prog="evomerge resume", description="Continue a run exactly where it was.")
    parser.add_argument("run", type=Path, help="the run folder, outputs/<name>/<time>")
    parser.add_argument(
        "changes",
        nargs="*",
        metavar="KEY=VALUE",
        help="a larger budget: budget.candidates=200 (or items, seconds); or a key that concerns speed only, like "
        "execution.threads=2 or execution=ray (`evomerge explain KEY` says which keys may be changed)",
    )
    add_quiet(parser)
    arguments = parser.parse_intermixed_args(words)
    budget: dict[str, float | int] = {}
    changes: dict[str, Any] = {}
    for word in arguments.changes:
        key, equals, value = word.partition("=")
        if key in LIMITS or key.startswith("budget.") or not equals:
            budget.update([_limit(word)])
        else:
            changes[key] = _value(key, value)
    return resume_search(arguments.run, budget, changes)


def _limit(word: str) -> tuple[str, float | int]:
    key, _, value = word.removeprefix("budget.").partition("=")
    if key not in LIMITS:
        raise ConfigError(
            f"resume takes budget.candidates=, budget.items= and budget.seconds=, and KEY=VALUE for keys that concern "
            f"speed, not {word!r}; whatever else differs is another search: start it with `evomerge search`"
        )
    try:
        return key, LIMITS[key](value)
    except ValueError:
        raise ConfigError(f"budget.{key} must be a number, but came {value!r}") from None


def _value(key: str, text: str) -> Any:
    """Return a value as YAML reads it: a number, a word, a list like [cuda:0, cuda:1]."""
    try:
        return read_yaml(text, lenient=True)
    except YamlError:
        raise ConfigError(f"{key}={text}: the value cannot be read; put a text with special signs in quotes") from None
