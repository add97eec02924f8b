"""`evomerge export`: merges of a run as Hugging Face folders with model cards."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.cli.quiet import add_quiet
from evomerge.cli.steps import steps
from evomerge.cli.streams import say

if TYPE_CHECKING:
    from evomerge.export import ExportReport


def run(words: Sequence[str]) -> int:
    """Write the best merge of a run: weights, config, tokenizer, recipe, model card."""
    arguments = _parser().parse_args(words)

    from evomerge import api

    reports: list[ExportReport] = []

    def tell(report: ExportReport) -> None:
        reports.append(report)
        _tell(report)

    options: dict[str, Any] = {
        "shard_size": int(arguments.shard_gb * 1e9),
        "verify": not arguments.no_verify,
        "tolerance": arguments.tolerance,
        "report": tell,
        "answers": not arguments.no_answers,
        "force": arguments.force,
        "title": arguments.title,
    }
    candidates = arguments.candidate or []
    also = api.further_formats(
        arguments.run,
        arguments.out,
        candidates=candidates,
        front=arguments.front,
        lora=arguments.lora,
        gguf=arguments.gguf,
        llama_cpp=arguments.llama_cpp,
        note=say,
    )
    with steps("exporting") as progress:
        if arguments.front or len(candidates) > 1:
            several = {"candidates": candidates, "front": arguments.front, "note": say}
            api.export_several(arguments.run, arguments.out, progress=progress, **several, **options)
            also(progress)
            return 0
        number = candidates[0] if candidates else None
        out = api.export(arguments.run, arguments.out, candidate=number, progress=progress, **options)
        say(f"wrote {out}")
        also(progress)
    for report in reports:
        say(f'load it: transformers.{report.auto_class}.from_pretrained("{out}")')
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evomerge export", description="Write merges of a run as model folders.")
    parser.add_argument("run", type=Path, help="the run folder, outputs/<name>/<time>")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write; must not exist or be empty")
    parser.add_argument(
        "--candidate",
        type=int,
        action="append",
        metavar="N",
        help="of the run; its best if left out. Several (--candidate 3 --candidate 7) go to OUT/candidate-3 and so on",
    )
    parser.add_argument("--front", action="store_true", help="all that the search chose, each in OUT/candidate-N")
    parser.add_argument("--title", help="the model's name in its card (default: the name of the folder)")
    parser.add_argument("--shard-gb", type=float, default=5.0, help="largest weight file, in GB (default 5)")
    parser.add_argument("--no-verify", action="store_true", help="do not compare the folder with the live model")
    parser.add_argument("--no-answers", action="store_true", help="show no answers in the model card, nor their items")
    parser.add_argument("--tolerance", type=float, help="largest relative logit difference that passes")
    parser.add_argument(
        "--force",
        action="store_true",
        help="write the folder even if its answers are cut, empty or repeating beside its parents'; "
        "with --no-verify no model is loaded at all",
    )
    parser.add_argument(
        "--lora", type=int, metavar="RANK", help="also a LoRA adapter of this rank on the base, in OUT-lora-rRANK"
    )
    parser.add_argument("--gguf", metavar="TYPE", help="also a GGUF file (f16, q8_0, Q4_K_M, …), in OUT-TYPE-GGUF")
    parser.add_argument("--llama-cpp", type=Path, metavar="DIR", help="llama.cpp's folder (default: $LLAMA_CPP, PATH)")
    add_quiet(parser)
    return parser


def _tell(report: ExportReport) -> None:
    if report.repeated is not None:
        say(report.repeated)
    say(f"verified: {report.verification}" if report.verification is not None else "not verified")
    if report.answering is not None:
        say(f"{'answers' if report.answering.passed else 'written by force'}: {report.answering}")
