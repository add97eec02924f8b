"""The progress of a job on a terminal; without a terminal, no library is loaded to draw it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from evomerge.cli.quiet import is_quiet


@contextlib.contextmanager
def steps(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of a job that reports (steps done, steps in all); on a terminal only."""
    if is_quiet() or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn(f"{what:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task(what, total=None)

    def step(done: int, total: int) -> None:
        progress.start()  # now, since something else may show its own progress before the first step
        progress.update(task, completed=done, total=total)

    try:
        yield step
    finally:
        progress.stop()
