"""`evomerge evaluate`: score one model, recipe or run's best on tasks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from evomerge.cli.display import percent, plain


def run(words: Sequence[str]) -> int:
    """Score a model on tasks and print each metric with its 95 % interval."""
    parser = argparse.ArgumentParser(
        prog="evomerge evaluate",
        description="Score a model folder, Hub id, zoo:NAME, recipe file or run (its best merge) on lm-eval tasks.",
    )
    parser.add_argument("target", help="what to score")
    parser.add_argument(
        "--task", action="append", default=[], help="an lm-eval task; may be repeated. A run brings its own test items"
    )
    parser.add_argument("--include-path", action="append", default=[], help="a folder with task YAML files; zoo:tasks")
    parser.add_argument("--limit", type=int, help="only so many items a task, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true", help="one JSON object: task, metric, score")
    arguments = parser.parse_args(words)

    from evomerge import api
    from evomerge.evaluation.measures.registry import MEASURES

    scores = api.evaluate(
        arguments.target,
        tasks=arguments.task,
        include_path=arguments.include_path,
        limit=arguments.limit,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        device=arguments.device,
    )
    if arguments.json:
        data = {task: {name: score.to_data() for name, score in found.items()} for task, found in scores.items()}
        print(json.dumps(data, indent=2, ensure_ascii=False))
        return 0
    table = Table("task", "metric", "score", "items", title=arguments.target)
    for task, found in scores.items():
        for name, score in found.items():
            shown = plain(score.to_data()) if name in MEASURES else percent(score)  # tokens and nats are no shares
            table.add_row(task, name, shown, str(score.n))
    Console().print(table)
    return 0
