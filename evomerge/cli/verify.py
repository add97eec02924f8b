"""`evomerge verify`: whether a saved checkpoint computes what its recipe does."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from evomerge.cli.console import make_console, named, print_table
from evomerge.cli.notes import say_note
from evomerge.cli.quiet import add_quiet
from evomerge.cli.streams import say_json
from evomerge.errors import ConfigError
from evomerge.system.figures import percentage
from evomerge.system.files import read_text
from evomerge.system.text import visible

if TYPE_CHECKING:
    from evomerge.export.verification import Verification


def run(words: Sequence[str]) -> int:
    """Compare a checkpoint with the live model of a recipe; the exit status is 1 where they differ."""
    parser = argparse.ArgumentParser(
        prog="evomerge verify",
        description="Compare a saved model folder with the live model of a recipe file or a run (its best merge).",
    )
    parser.add_argument("target", help="a run folder, or the YAML file of a recipe, evomerge's or mergekit's")
    parser.add_argument("folder", type=Path, help="the model folder, as `evomerge export` or `evomerge merge` wrote it")
    parser.add_argument("--prompts", type=Path, help="a text file with one prompt a line, beside the random ones")
    parser.add_argument("--random", type=int, default=8, help="prompts of random tokens (default 8)")
    parser.add_argument("--length", type=int, default=48, help="tokens of each random prompt (default 48)")
    parser.add_argument("--tokens", type=int, default=32, help="greedy tokens after each prompt (default 32)")
    parser.add_argument("--tolerance", type=float, help="largest relative logit difference that passes")
    parser.add_argument("--seed", type=int, default=0, help="of the random prompts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_quiet(parser)
    arguments = parser.parse_args(words)

    from evomerge import api

    found = api.verify(
        arguments.target,
        arguments.folder,
        prompts=_prompts(arguments.prompts),
        n_random=arguments.random,
        length=arguments.length,
        new_tokens=arguments.tokens,
        seed=arguments.seed,
        tolerance=arguments.tolerance,
        device=arguments.device,
        note=say_note,
    )
    if arguments.json:
        say_json(found.to_data())
    else:
        table = Table("measured", "found", title=named(f"{arguments.folder} and {arguments.target}"))
        for name, value in _rows(found).items():
            table.add_row(name, visible(value))
        print_table(make_console(), table)
        print(_outcome(found))
    return 0 if found.passed else 1


def _outcome(one: Verification) -> str:
    if one.epsilon_only:
        return "passed: all that differs is the epsilon of the norms, and it changes no token"
    return "passed" if one.passed else "FAILED: the folder does not compute what the recipe does"


def _rows(one: Verification) -> Mapping[str, str]:
    """Return the measurements as rows of a table."""
    return {
        "largest relative logit difference": f"{one.logit_difference:.2g} (allowed {one.tolerance:.2g})",
        **(
            {}
            if one.without_epsilon is None
            else {"without the norms' epsilon": f"{one.without_epsilon:.2g} (allowed {one.tolerance:.2g})"}
        ),
        "equal greedy tokens": f"{percentage(one.equal_tokens)}% of {one.n_tokens}",
        "prompts": str(one.n_prompts),
        "weights": f"{one.dtype}{', scales folded in' if one.folded else ''}",
        "other problems": "; ".join(one.problems) or "none",
    }


def _prompts(path: Path | None) -> list[str]:
    if path is None:
        return []
    lines = read_text(path, "the prompts in", ConfigError).splitlines()
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise ConfigError(f"{path} holds no prompt; write one on each line")
    return prompts
