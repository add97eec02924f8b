"""`evomerge export`: the best merge of a run as a Hugging Face folder with a model card."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evomerge.cli.steps import steps
from evomerge.cli.streams import say

if TYPE_CHECKING:
    from evomerge.export import ExportReport


def run(words: Sequence[str]) -> int:
    """Write the best merge of a run: weights, config, tokenizer, recipe, model card."""
    parser = argparse.ArgumentParser(prog="evomerge export", description="Write a run's best merge as a model folder.")
    parser.add_argument("run", type=Path, help="the run folder, outputs/<name>/<time>")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write; must not exist or be empty")
    parser.add_argument("--candidate", type=int, metavar="N", help="of the run; its best if left out")
    parser.add_argument("--shard-gb", type=float, default=5.0, help="largest weight file, in GB (default 5)")
    parser.add_argument("--no-verify", action="store_true", help="do not compare the folder with the live model")
    parser.add_argument("--no-answers", action="store_true", help="show no answers in the model card, nor their items")
    parser.add_argument("--tolerance", type=float, help="largest relative logit difference that passes")
    arguments = parser.parse_args(words)

    from evomerge import api

    reports: list[ExportReport] = []
    with steps("exporting") as progress:
        out = api.export(
            arguments.run,
            arguments.out,
            candidate=arguments.candidate,
            shard_size=int(arguments.shard_gb * 1e9),
            progress=progress,
            verify=not arguments.no_verify,
            tolerance=arguments.tolerance,
            report=reports.append,
            answers=not arguments.no_answers,
        )
    for report in reports:
        if report.repeated is not None:
            say(report.repeated)
        say(f"verified: {report.verification}" if report.verification is not None else "not verified")
    say(f"wrote {out}")
    for report in reports:
        say(f'load it: transformers.{report.auto_class}.from_pretrained("{out}")')
    return 0
