"""`evomerge evaluate`: scores one model, recipe or run's best on tasks, or models on all items of a search's tasks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from evomerge.cli.asking import add_asking, asking_of
from evomerge.cli.console import make_console, named, print_table
from evomerge.cli.notes import say_note
from evomerge.cli.quiet import add_quiet
from evomerge.cli.skill_table import LOST, loss_word, skill_table
from evomerge.cli.steps import steps
from evomerge.cli.streams import say_json
from evomerge.cli.tables import percent, plain
from evomerge.errors import ConfigError
from evomerge.system.figures import gain, p_text, percentage
from evomerge.system.text import command

if TYPE_CHECKING:
    from evomerge.api import Score
    from evomerge.workflows.full_evaluation import FullResult, TaskColumn

RESPONSES = Path("responses.npz")
"""The file into which `--all-parents` writes by default."""


def run(words: Sequence[str]) -> int:
    """Score models and print each metric with its 95 % interval."""
    parser = _parser()
    arguments = parser.parse_intermixed_args(words)
    if arguments.full or arguments.all_parents:
        if arguments.log_samples is not None:
            parser.error("--log-samples goes with the items of one model, without --full and --all-parents")
        if arguments.task or arguments.include_path or arguments.limit is not None:
            parser.error("--full and --all-parents take all items of the configuration's tasks: name no others")
        if any(one is not None for one in asking_of(arguments).values()):
            parser.error(
                "--full and --all-parents ask as the configuration says (evaluation.chat, and the entries of its "
                "tasks): say it there"
            )
        return _everything(arguments)
    if len(arguments.target) > 1 or arguments.out or arguments.force:
        parser.error("several words as a target, --out and --force go with --full or --all-parents")

    from evomerge import api

    target = arguments.target[0]
    if not arguments.task and (Path(target) / "run.sqlite").is_file():
        if all(one is None for one in asking_of(arguments).values()):
            return _winner(arguments)
        say_note("asked in another way than in the run, so the scores stand alone: those of the parents do not compare")
    scores = api.evaluate(
        target,
        tasks=arguments.task,
        include_path=arguments.include_path,
        limit=arguments.limit,
        seed=arguments.seed,
        **asking_of(arguments),
        **_running(arguments),
        log_samples=arguments.log_samples,
    )
    if arguments.json:
        data = {task: {name: score.to_data() for name, score in found.items()} for task, found in scores.items()}
        say_json(data)
        return 0
    print_table(make_console(), _metrics(target, scores))
    return 0


def _running(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of every way to evaluate: how models are run, and who is told."""
    return {
        "batch_size": arguments.batch_size,
        "device": arguments.device,
        "allow_unsafe_code": arguments.allow_unsafe_code or None,
        "note": say_note,
    }


def _winner(arguments: argparse.Namespace) -> int:
    """Score a run's best merge on the run's test items, beside what the run has of the parents and the average."""
    from evomerge import api

    target = arguments.target[0]
    found = api.evaluate_run(
        target,
        **_running(arguments),
        log_samples=arguments.log_samples,
    )
    if arguments.json:
        say_json(found.to_data())
        return 0
    console = make_console()
    print_table(console, _metrics(target, found.scores))
    if any(one["n"] for one in found.status["skills"]):
        print_table(console, skill_table(found.status, console.width))
        console.print("scores of parents and average are those that the run recorded on the same items")
    return 0


def _metrics(target: str, scores: Mapping[str, Mapping[str, Score]]) -> Table:
    from evomerge import api

    table = Table("task", "metric", "score", "items", title=named(target))
    measures = api.measures()
    for task, found in scores.items():
        for name, score in sorted(found.items(), key=lambda one: one[0] in measures):  # what the task reports first
            shown = percent(score) if api.is_share(name) else plain(score.to_data())
            table.add_row(named(task), named(name), shown, str(score.n))
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evomerge evaluate",
        description="Score a model folder, Hub id, zoo:NAME, recipe file or run (its best merge) on lm-eval tasks. "
        "With --full or --all-parents: models on all items of a search's tasks.",
    )
    parser.add_argument(
        "target",
        nargs="+",
        help="what to score; with --all-parents a run, or a configuration as for `evomerge search`",
    )
    parser.add_argument(
        "--task", action="append", default=[], help="an lm-eval task; may be repeated. A run brings its own test items"
    )
    parser.add_argument("--include-path", action="append", default=[], help="a folder with task YAML files; zoo:tasks")
    parser.add_argument("--limit", type=int, help="only so many items a task, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0, help="of what --limit draws; default: 0")
    parser.add_argument("--full", action="store_true", help="a run's winner on all items of its tasks")
    parser.add_argument("--all-parents", action="store_true", help="every parent, the base and the average likewise")
    parser.add_argument(
        "--out", type=Path, help=f"file for the response matrix, continued if it exists; --all-parents: {RESPONSES}"
    )
    parser.add_argument("--force", action="store_true", help="score again what that file holds")
    parser.add_argument("--batch-size", type=int, help="default: the configuration's, else 64")
    parser.add_argument("--device", help="default: the configuration's, else auto")
    parser.add_argument(
        "--allow-unsafe-code",
        action="store_true",
        help="let tasks like HumanEval run, with your rights, code that the model writes",
    )
    parser.add_argument(
        "--log-samples", type=Path, metavar="DIR", help="write what was asked and answered, as lm_eval does"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object with stable keys")
    add_asking(parser)
    add_quiet(parser)
    return parser


def _everything(arguments: argparse.Namespace) -> int:
    """Score models on all items of the tasks of a run or configuration."""
    from evomerge import api
    from evomerge.cli.compose import compose

    words = arguments.target
    target: Path | Mapping[str, Any] = Path(words[0])
    if arguments.full and len(words) > 1:
        raise ConfigError(f"--full takes one run folder, but came {' '.join(words)}")
    if not arguments.full and not (len(words) == 1 and Path(words[0]).is_dir()):
        target = compose(words)
    out = arguments.out or (RESPONSES if arguments.all_parents else None)
    with steps("models") as progress:
        result = api.evaluate_full(
            target,
            winner=arguments.full,
            parents=arguments.all_parents,
            out=out,
            force=arguments.force,
            progress=progress,
            **_running(arguments),
        )
    if arguments.json:
        say_json(result.to_data())
        return 0
    console = make_console()
    for i, column in enumerate(result.columns):
        print_table(console, _table(result, i, column))
        if result.searched:
            console.print(_share(column), highlight=False)
        if result.skills:
            console.print(_against(result.skills[i]), style=LOST if result.skills[i]["lost"] else "", highlight=False)
    if out is not None:
        console.print(f"responses: {out}", highlight=False, soft_wrap=True)
    if result.searched and not arguments.full:
        console.print(f"the winner too: {command('evaluate', words[0], '--full', '--all-parents')}", highlight=False)
    return 0


def _table(result: FullResult, i: int, column: TaskColumn) -> Table:
    table = Table(title=named(f"{column.source}, {column.label}: {len(column.items)} items"))
    table.add_column("model")
    table.add_column("all items", justify="right")
    if result.searched:
        table.add_column("unseen items", justify="right")
    for name, row in result.scores.items():
        unseen = [percent(row[i].unseen)] if result.searched else []
        table.add_row(named(name), percent(row[i].everything), *unseen)
    return table


def _against(one: Mapping[str, Any]) -> str:
    """Return what the winner is worth beside the parent that is best at a task, on the items that nobody saw before."""
    if not one["n"]:
        return "no unseen items on which the winner and the best parent can be compared"
    lost = f": {loss_word(one)}" if one["lost"] else ""
    return (
        f"winner against {one['best_parent']}, the best parent by its {one['best_parent_by']} items: "
        f"{gain(one).strip()} on {one['n']} unseen items (paired, {p_text(one['p_value'])}){lost}"
    )


def _share(column: TaskColumn) -> str:
    from evomerge.api import Split

    n = len(column.items)
    searched, chose = column.seen(Split.SEARCH), column.seen(Split.VALIDATION)
    unseen = n - searched - chose
    return (
        f"searched on {searched} of {n} items ({percentage(searched / n, 0)} %), the winner chosen on {chose} "
        f"({percentage(chose / n, 0)} %), {unseen} unseen"
    )
