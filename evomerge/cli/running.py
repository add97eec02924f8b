"""The common parts of `search` and `resume`: the display, Ctrl-C, and the closing table."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evomerge import api
from evomerge.cli.console import make_console, print_table
from evomerge.cli.display import Display, result_tables, verdict_lines


@contextlib.contextmanager
def stop_on_ctrl_c(display: Display) -> Iterator[api.StopSignal]:
    """Turn Ctrl-C and SIGTERM into a stop signal: one lets the running candidate finish, a second stops at once."""
    stop = api.StopSignal()

    def handle(number: int, frame: object) -> None:
        requests = stop.request()
        if requests == 1:
            display.note("stopping after the running candidate; press Ctrl-C again to stop at once")
        elif requests > 2:
            raise KeyboardInterrupt  # the running step ignores the signal: a long merge, or a library that hangs

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_search(data: Mapping[str, Any], folder: Path) -> int:
    """Start the search of a composed configuration in a run folder, and show it."""
    with Display() as display, stop_on_ctrl_c(display) as stop:
        run = api.search(data, run_dir=folder, listener=display, stop=stop, note=display.note)
    return show_result(run)


def resume_search(folder: Path, budget: Mapping[str, Any]) -> int:
    """Continue a run, and show it."""
    with Display() as display, stop_on_ctrl_c(display) as stop:
        run = api.resume(folder, budget=budget, listener=display, stop=stop, note=display.note)
    return show_result(run)


def show_result(run: Any) -> int:
    """Print the closing table and the next command; return the exit status."""
    console = make_console()
    status = run.status()
    for table in result_tables(status):
        print_table(console, table)
    for line in verdict_lines(status):
        console.print(line, highlight=False)
    for warning in run.warnings():
        console.print(f"note: {warning}", highlight=False)
    console.print(f"next: evomerge export {run.path} --out my-merge", highlight=False, soft_wrap=True)
    return 0
