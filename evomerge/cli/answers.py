"""`evomerge answers`: what models answered, side by side."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evomerge.cli.console import make_console, named
from evomerge.cli.streams import say, say_json
from evomerge.system.text import visible

if TYPE_CHECKING:
    from evomerge.analysis.answers import AnsweredItem

PROMPT, ANSWER = 400, 1000
"""Most characters of a prompt and of an answer that are shown, unless all are asked for."""

NARROW = 60
"""Columns of a terminal below which answers stand below each other."""

SAID = {"equal": "equally good"}
"""What is said of a kind of items where that is not its name."""


def run(words: Sequence[str]) -> int:
    """Print what models answered to items, those that the first one lost first."""
    parser = _parser()
    arguments = parser.parse_args(words)
    if arguments.limit is not None and arguments.limit < 1:
        parser.error("--limit takes a number of at least 1")

    from evomerge import api

    which = [name for name in ("lost", "gained", "wrong", "right") if getattr(arguments, name)]
    against = arguments.against
    rows = api.answers(
        arguments.run,
        model=arguments.model,
        against=None if against is None else [name for name in against if name != "none"],
        tasks=arguments.task,
        split=arguments.split,
        item=arguments.item,
        which=which,
    )
    if arguments.out is not None and rows:
        for path in api.save_answers(arguments.run, rows, arguments.out):
            say(f"wrote {path}")
        return 0
    most = arguments.limit
    if arguments.json:
        for row in rows[:most]:
            for line in row.to_data():
                say_json(line, indent=None)
        return 0
    most = 10 if most is None else most
    console = make_console()
    console.print(_summary(rows), highlight=False)
    for row in rows[:most]:
        for part in _parts(row, console, full=arguments.full, full_prompts=arguments.full_prompts or arguments.full):
            console.print(part, highlight=False)
    if len(rows) > most:
        console.print(f"\n{len(rows) - most} more: --limit {len(rows)}, or choose by --task, --item, --lost …")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evomerge answers",
        description="What models of a run answered, side by side; by default the winner beside the best parent of each "
        "task. Models: winner, a parent's name, average, consensus, or a candidate's number; parent:NAME for a parent "
        "that is called like one of the others.",
    )
    parser.add_argument("run", type=Path, help="the run folder, outputs/<name>/<time>; the search may go on")
    parser.add_argument("--task", action="append", default=[], help="only this task; may be repeated")
    parser.add_argument("--model", help="whose answers are shown; default: winner")
    parser.add_argument(
        "--against",
        action="append",
        help="beside whose; may be repeated, or none; default: the best parent of each task",
    )
    parser.add_argument("--split", choices=["search", "validation", "test"], help="default: the last that all answered")
    parser.add_argument("--item", type=int, metavar="N", help="only the item with this number in its task's documents")
    parser.add_argument("--lost", action="store_true", help="items on which the model is worse than the other")
    parser.add_argument("--gained", action="store_true", help="items on which it is better")
    parser.add_argument("--wrong", action="store_true", help="items that the model has wrong")
    parser.add_argument("--right", action="store_true", help="items that it has right")
    parser.add_argument("--limit", type=int, metavar="K", help="only so many items; default: 10, with --json all")
    parser.add_argument("--full-prompts", action="store_true", help="do not shorten the prompts")
    parser.add_argument("--full", action="store_true", help="shorten neither prompts nor answers")
    parser.add_argument("--json", action="store_true", help="one JSON line an answer, with stable keys")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write lm-eval's sample logs instead: DIR/MODEL/samples_TASK_TIME.jsonl",
    )
    return parser


def _summary(rows: Sequence[AnsweredItem]) -> str:
    if not rows:
        return "no such items; leave out --lost, --gained, --wrong and --right for all"
    counts = Counter(row.kind for row in rows)  # in the order of the rows
    shown = ", ".join(f"{n} {SAID.get(kind, kind)}" for kind, n in counts.items())
    first, *others = [visible(name) for name in dict.fromkeys(name for row in rows for name in row.answers)]
    each = "the best parent of each task, " if any(len(row.answers) <= len(others) for row in rows) else ""
    beside = f" beside {each}{', '.join(others)}" if others else ""
    return f"{first}{beside} on {len(rows)} {rows[0].split} items: {shown}"


def _parts(row: AnsweredItem, console: Console, *, full: bool, full_prompts: bool) -> Iterator[RenderableType]:
    """Yield what is printed for one item."""
    style = {"lost": "bold red", "gained": "bold green"}.get(row.kind, "bold")
    yield Text(f"\n{visible(row.task)}, {row.split} item {row.item}: {SAID.get(row.kind, row.kind)}", style)
    if row.question is not None:
        yield Padding(
            Text(_shown(row.question.strip(), None if full_prompts else PROMPT), "dim"), (0, 0, 0, 2), expand=False
        )
    if row.options is not None:
        yield Text(f"  options: {visible(' | '.join(row.options), most=None if full else ANSWER)}")
    if row.target is not None:
        yield Text(f"  target: {visible(row.target, most=None if full else ANSWER)}")
    cells = {name: _answer(row, name, full=full) for name in row.answers}
    if console.width < NARROW or len(cells) == 1:
        for name, cell in cells.items():
            yield Text(f"  {_head(row, name)}", "bold")
            yield Padding(cell, (0, 0, 0, 4), expand=False)
        return
    table = Table()
    for name in cells:
        table.add_column(named(_head(row, name)), overflow="fold")
    table.add_row(*cells.values())
    yield table


def _head(row: AnsweredItem, name: str) -> str:
    one = row.answers[name]
    mark = {True: "right", False: "wrong", None: ""}[one.right]
    score = "" if one.score is None or (one.right and one.score == 1.0) or one.score == 0.0 else f" {one.score:.4g}"
    return f"{visible(name)}: {mark}{score}".rstrip(": ")


def _answer(row: AnsweredItem, name: str, *, full: bool) -> Text:
    text = row.text(name)
    if text is None:
        told = ", ".join(visible(one) for one in row.answers[name].answer.responses)
        return Text(f"log-probability, greedy: {told}" if told else "no answer")
    shown = _shown(text, None if full else ANSWER) if text.strip() else "(empty)"
    made = row.filtered(name)
    found = Text(shown)
    if made is not None and str(made).strip() != text.strip():
        found.append(f"\n→ {visible(made, most=200)}", "dim")
    return found


def _shown(text: str, most: int | None) -> str:
    """Return text with its lines; a long one without its middle."""
    if most is None or len(text) <= most:
        return visible(text, lines=True)
    half = most // 2
    left = len(text) - 2 * half
    return f"{visible(text[:half], lines=True)} … ({left:,} characters) … {visible(text[-half:], lines=True)}"
