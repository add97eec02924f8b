"""`evomerge log`: send a run to a logger, after or while it is searched."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evomerge.cli.streams import say
from evomerge.errors import ConfigError
from evomerge.system.yaml_text import YamlError, read_yaml

DESCRIPTION = """\
Send a run to TensorBoard, trackio, Weights & Biases or MLflow: one row for each model that was scored, as a search with
`loggers` does. What is there already is not sent twice, so the command can be repeated. docs/loggers.md says what a row
holds, and each logger's options.
"""


def run(words: Sequence[str]) -> int:
    """Send a run, and say how many rows were new."""
    parser = argparse.ArgumentParser(
        prog="evomerge log", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the run folder, outputs/<name>/<time>")
    parser.add_argument(
        "--to", required=True, metavar="NAME", help="tensorboard, trackio, wandb, mlflow, or your own my_file.py:Class"
    )
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE", help="the logger's options: project=merges")
    parser.add_argument("--again", action="store_true", help="send everything again, to another run there")
    arguments = parser.parse_intermixed_args(words)
    options = dict(map(_option, arguments.options))

    from evomerge import api

    found = api.log_run(arguments.run, arguments.to, options, again=arguments.again, note=say)
    old = found["rows"] - found["sent"]
    say(f"{found['sent']} rows sent" + (f", {old} were there before" if old else ""))
    return 0


def _option(word: str) -> tuple[str, Any]:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected an option of the logger like project=merges, but came {word!r}")
    try:
        value = read_yaml(text, lenient=True)
    except YamlError:
        value = text
    return key, value if isinstance(value, bool) or value is None else text
