"""`evomerge extract-lora`: what distinguishes a model from its base, as a LoRA adapter."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evomerge.cli.quiet import add_quiet
from evomerge.cli.steps import steps
from evomerge.cli.streams import say
from evomerge.errors import ConfigError

AUTO = "auto"


def run(words: Sequence[str]) -> int:
    """Write the difference of two models as a LoRA adapter that PEFT loads."""
    parser = argparse.ArgumentParser(
        prog="evomerge extract-lora",
        description="Write what distinguishes a model from its base as a LoRA adapter, cut to a rank.",
    )
    parser.add_argument("model", help="a model's folder or Hub id, such as an exported merge; or {path: …}")
    parser.add_argument("base", help="the model that the adapter lies on, of the same shape")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write; must not exist or be empty")
    parser.add_argument("--rank", default="32", help=f"of each matrix, or {AUTO}: as --error asks (default 32)")
    parser.add_argument(
        "--error", type=float, default=0.05, help=f"with --rank {AUTO}: most relative error of a matrix (default 0.05)"
    )
    parser.add_argument("--matrices-only", action="store_true", help="leave out norms, biases and tied embeddings")
    parser.add_argument("--no-verify", action="store_true", help="do not compare logits with the model's")
    add_quiet(parser)
    arguments = parser.parse_args(words)

    from evomerge import api

    with steps("extracting") as progress:
        found = api.extract_lora(
            arguments.model,
            arguments.base,
            arguments.out,
            rank=rank_of(arguments.rank),
            error=arguments.error,
            others=not arguments.matrices_only,
            verify=not arguments.no_verify,
            progress=progress,
        )
    say(found)
    say(f"wrote {found.folder}")
    return 0


def rank_of(word: str) -> int | None:
    """Return the rank that a word says; None: automatic.

    Raises:
        ConfigError: if it says neither.
    """
    if word == AUTO:
        return None
    try:
        return int(word)
    except ValueError:
        raise ConfigError(f"a rank is a whole number or {AUTO}, but came {word!r}") from None
