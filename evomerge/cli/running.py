"""The common parts of `search` and `resume`: the display, Ctrl-C, and the closing table."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from evomerge import api
from evomerge.cli.console import make_console, print_hanging, print_table
from evomerge.cli.display import Display
from evomerge.cli.quiet import is_quiet
from evomerge.cli.stopping import stop_on_signals
from evomerge.cli.streams import unread
from evomerge.cli.tables import (
    NOTE,
    VERDICT,
    answers_command,
    is_worst,
    result_tables,
    verdict_line,
    verdict_lines,
)
from evomerge.errors import Interrupted
from evomerge.system.text import command, visible

GRAVE = ("lost_skill", "limits", "degenerate", "unscored")
"""The kinds of warnings that are shown even where it is quiet; see `evomerge.record.CAUTIONS`."""

_NAMED = 3
"""So many lost skills are named in a sentence."""


def run_search(data: Mapping[str, Any], folder: Path | None = None) -> int:
    """Start the search of a composed configuration in a folder (None: the one that it names), and show it."""
    run = data.get("run")
    named = run.get("dir") if folder is None and isinstance(run, Mapping) else folder
    with _shown(None if named is None else Path(str(named)).expanduser()) as (display, stop):
        run = api.search(data, run_dir=folder, listener=display, stop=stop, note=display.note)
    return show_result(run)


def resume_search(folder: Path, budget: Mapping[str, Any], changes: Mapping[str, Any]) -> int:
    """Continue a run, and show it."""
    with _shown(folder) as (display, stop):
        run = api.resume(folder, budget=budget, changes=changes, listener=display, stop=stop, note=display.note)
    return show_result(run)


@contextlib.contextmanager
def _shown(folder: Path | None) -> Iterator[tuple[Display, api.StopSignal]]:
    """Show a search, and let Ctrl-C stop it.

    Raises:
        Interrupted: in place of a `KeyboardInterrupt`.
    """

    def last_words() -> str:
        if folder is None or not (folder / "run.sqlite").is_file():
            return "nothing had been begun" if folder else "`evomerge resume FOLDER` continues the run"
        return f"everything scored so far is in the run; `{command('resume', folder)}` continues it"

    try:
        with unread("stdout", "stderr"), Display() as display, stop_on_signals(display.note, last_words) as stop:
            yield display, stop
    except KeyboardInterrupt:
        raise Interrupted(f"stopped at once; {last_words()}") from None


def show_result(run: Any) -> int:
    """Print what was found, and at its end, where a terminal shows it, the verdict and the next command; return 0."""
    console = make_console()
    status = run.status()
    if is_quiet():
        _show_quietly(console, status)
        return 0
    for table in result_tables(status, console.width):
        print_table(console, table)
    for text in verdict_lines(status):
        console.print(text, highlight=False)
    for warning in run.warnings():
        print_hanging(console, NOTE, Text(warning))
    if (line := verdict_line(status)) is not None:
        print_hanging(console, VERDICT, line)
    if any(status["answers"]["kept"].values()):
        console.print(f"what was answered: {answers_command(status)}", highlight=False, soft_wrap=True)
    console.print(f"next: {_next(status)}", highlight=False, soft_wrap=True)
    return 0


def _show_quietly(console: Console, status: Mapping[str, Any]) -> None:
    """Print the verdict, what is grave, and the next command."""
    for warning in status["warnings"]:
        if warning["kind"] in GRAVE:
            print_hanging(console, NOTE, Text(warning["text"]))
    if (line := verdict_line(status)) is not None:
        print_hanging(console, VERDICT, line)
    console.print(f"next: {_next(status)}", highlight=False, soft_wrap=True)


def _next(status: Mapping[str, Any]) -> str:
    """Return the next command: export, a floor for a lost skill, or a larger budget.

    That is where no parent was surpassed, or where no finalist kept the limits, or every skill by `objective: worst`.
    """
    path = status["path"]
    limits = {key: max(value, math.ceil(status[key])) for key, value in status["budget"].items() if value}
    more = [f"budget.{key}={2 * value}" for key, value in limits.items()]
    export = command("export", path, "--out", "my-merge")
    further = f"search further, with a larger budget: {command('resume', path, *more)}"
    broken = bool((status.get("best") or {}).get("broken_limits", {}).get("validation"))
    if more and (broken or (is_worst(status) and (status.get("verdict") or {}).get("use") is False)):
        return f"{further}, or export it all the same: {export}"  # what to keep was said, and was not found yet
    lost = [one["task"] for one in status.get("skills", ()) if one["lost"] and not one.get("floor")]
    against = (status.get("verdict") or {}).get("use") is False and len(status.get("skills", ())) > 1
    if status["beats_parent"] is not False and lost and against:
        tasks = ", ".join(map(visible, lost[:_NAMED])) + (
            f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        )
        return f"search again with `floor: 95%` for {tasks} (docs/fitness.md), or export it all the same: {export}"
    if status["beats_parent"] is not False or not more:
        return export
    return further
