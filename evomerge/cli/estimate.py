"""`evomerge estimate`: scores of models on all items from their answers to a few."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from evomerge.errors import EstimationError

if TYPE_CHECKING:
    from evomerge.estimation import Responses


def run(words: Sequence[str]) -> int:
    """Reveal a few responses of each target and print its estimated score with its interval."""
    parser = argparse.ArgumentParser(
        prog="evomerge estimate",
        description="Estimate the mean score of target models over all items from N of their responses. The estimator "
        "is fitted on the calibration models; items are chosen from their responses and answers already revealed.",
    )
    parser.add_argument(
        "--responses", required=True, help="response matrix: .npz, .csv, .parquet, or lm-eval sample logs"
    )
    parser.add_argument("--calibration", required=True, help="text file with the calibration models, one name a line")
    parser.add_argument("--targets", required=True, help="text file with the models to estimate, one name a line")
    parser.add_argument("--items", required=True, type=int, metavar="N", help="responses of each target to reveal")
    parser.add_argument("--task", help="use only items named TASK/...")
    parser.add_argument(
        "--select", default="adaptive", help="which items: adaptive (default), fisher, greedy, anchors …"
    )
    parser.add_argument(
        "--estimator", default="mixture", help="mixture (default), mean, ridge, p-irt, gp-irt, mp-irt …"
    )
    parser.add_argument("--parents", help="JSON file, {target: [names of its parents]}; their rows are used in full")
    parser.add_argument("--metric", help="metric to read from lm-eval sample logs")
    parser.add_argument("--level", type=float, default=0.9, help="of the interval (default 0.9)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object; scores between 0 and 1")
    arguments = parser.parse_args(words)
    if not 0 < arguments.level < 1:
        raise EstimationError(f"--level lies between 0 and 1; got {arguments.level}")

    from evomerge.estimation import Plan, estimate_from_few, read_responses

    responses = read_responses(arguments.responses, metric=arguments.metric)
    if arguments.task is not None:
        kept = [name for name in responses.items if name.startswith(f"{arguments.task}/")]
        if not kept:
            raise EstimationError(f"no item is named {arguments.task}/...; items are named like {responses.items[0]!r}")
        responses = responses.of_items(kept)
    targets = responses.of_models(_names(arguments.targets))
    calibration = responses.of_models(_names(arguments.calibration))
    parents = _parents(arguments.parents, responses, targets.models) if arguments.parents else None
    plan = Plan(arguments.items, arguments.select, arguments.estimator, arguments.seed)
    found, seen = estimate_from_few(calibration, targets, plan, parents)
    low, high = found.interval(arguments.level)

    if arguments.json:
        told = {
            name: {
                "estimate": float(found.mean[row]),
                "standard_error": float(found.se[row]),
                "interval": [float(low[row]), float(high[row])],
                "items": [item for item, score in zip(calibration.items, seen[row], strict=True) if score == score],
            }
            for row, name in enumerate(targets.models)
        }
        head = {"estimator": plan.estimator, "select": plan.select, "n_items": plan.items, "seed": plan.seed}
        print(json.dumps({**head, "level": arguments.level, "targets": told}, indent=2, ensure_ascii=False))
        return 0
    table = Table("target", "estimate", "standard error", f"{100 * arguments.level:g} % interval", "items")
    for row, name in enumerate(targets.models):
        interval = f"{100 * low[row]:.1f} to {100 * high[row]:.1f} %"
        asked = str(int((seen[row] == seen[row]).sum()))
        table.add_row(name, f"{100 * found.mean[row]:.1f} %", f"{100 * found.se[row]:.1f}", interval, asked)
    Console().print(table)
    return 0


def _names(path: str) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise EstimationError(f"cannot read the model names in {path}: {error.strerror}") from error
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise EstimationError(f"{path} names no model: expected one name a line")
    return names


def _parents(path: str, responses: Responses, targets: Sequence[str]) -> dict[str, Responses]:
    """Rows of the parents by target. Parents that are not on file are left out, and said so."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EstimationError(f"cannot read the parents in {path}: {error}") from error
    named = isinstance(data, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in data.values()
    )
    if not named:
        raise EstimationError(f"{path} must be a JSON object, {{target: [names of its parents]}}")
    known = set(responses.models)
    rows = {}
    for target, names in data.items():
        if target not in targets:
            continue  # one file may serve several lists of targets
        missing = [name for name in dict.fromkeys(names) if name not in known]
        for name in missing:
            print(f"evomerge: parent {name!r} of {target!r} has no responses and is left out", file=sys.stderr)
        rows[target] = responses.of_models(name for name in dict.fromkeys(names) if name in known)
    return rows
