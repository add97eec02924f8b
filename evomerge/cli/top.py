"""`evomerge top`: the live view of a run that another process searches, or a table of all running ones of a folder."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from evomerge import api
from evomerge.api import Moment
from evomerge.cli.console import make_console
from evomerge.cli.live.keys import Keys
from evomerge.cli.live.lines import moment_line
from evomerge.cli.live.marks import marks_for
from evomerge.cli.live.picture import last_picture, picture
from evomerge.cli.live.running import RunningRuns, running_lines, running_picture
from evomerge.cli.live.screen import GONE, Screen
from evomerge.errors import RunError
from evomerge.system.text import command, visible

EVERY = 10.0
"""Without a terminal, a line is printed for each improvement, and at least every so many seconds."""

_LOOK = 1.0


def run(words: Sequence[str]) -> int:
    """Show a running search from elsewhere until it ends or a key is pressed."""
    parser = argparse.ArgumentParser(
        prog="evomerge top",
        description="The live view of a run that another process searches; of a folder of runs, a table of those that "
        "run. It reads only, and the search goes on when it is left with q or Ctrl-C.",
    )
    parser.add_argument("run", type=Path, nargs="?", default=Path("outputs"), help="a run, or a folder (outputs)")
    arguments = parser.parse_args(words)
    return watch(arguments.run)


def watch(path: Path) -> int:
    """Show a run, or the running ones of a folder, as `evomerge top` does.

    Raises:
        RunError: if there is no such folder, or it holds no run.
    """
    console = make_console()
    live = console.is_terminal and not console.is_dumb_terminal
    with contextlib.suppress(KeyboardInterrupt):
        if (path / "run.sqlite").is_file() or not path.is_dir():
            return _watch_run(console, path, live=live)
        if not api.runs_in(path):
            raise RunError(f"there is no run in {path}; a run is a folder outputs/<name>/<time> of `evomerge search`")
        return _watch_folder(console, path, live=live)
    return 0


# ---- one run ----


def _watch_run(console: Console, path: Path, *, live: bool) -> int:
    found = _Found(path)
    try:
        if found.look().ended:
            return _end(console, found)
    finally:
        found.close()
    found = _Found(path)  # its connection belongs to the screen's thread
    if live:
        marks = marks_for(console)

        def draw(width: int, height: int) -> list[Text]:
            moment = found.look()
            hint = Text("q leaves; the search goes on", "dim")
            return [*picture(moment, found.notes(), width, height - 1, marks), hint][:height]

        _until_left(Screen(console, draw, whole=True, after=found.close), lambda: found.over)
    else:
        with contextlib.closing(found):
            _print_until_end(console, found)
    return _end(console, found)


def _print_until_end(console: Console, found: _Found) -> None:
    best, last = None, 0.0
    while not found.over:
        with contextlib.suppress(RunError):
            moment = found.look()
            now = time.monotonic()
            if moment.best != best or now - last >= EVERY:
                console.print(f"{time.strftime('%H:%M:%S')} {moment_line(moment)}", highlight=False)
                best, last = moment.best, now
        if not found.over:
            time.sleep(_LOOK)


def _end(console: Console, found: _Found) -> int:
    """Say how a run stands that is not watched any more, and why; return the exit status."""
    moment = found.moment
    if moment is not None:
        if console.is_terminal:
            for line in last_picture(moment, console.width, marks_for(console)):
                console.print(line, highlight=False, soft_wrap=True)
        else:
            console.print(moment_line(moment), highlight=False)
    if found.gone is not None:
        raise found.gone
    if moment is None or not moment.ended:
        return 0
    path = moment.path
    if moment.state == "interrupted":
        why = f"{visible(moment.doubt)}; " if moment.doubt else "it was stopped; "
        console.print(f"{why}`{command('resume', path)}` continues it", highlight=False, soft_wrap=True)
    elif moment.state == "failed":
        said = "" if moment.error is None else f": {visible(moment.error, most=500)}"
        console.print(f"the search failed{said}; `{command('resume', path)}` continues it", highlight=False)
    else:
        console.print(f"the search is complete: {command('status', path)}", highlight=False, soft_wrap=True)
    return 0


class _Found:
    """A run that is watched, until it ends or is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._watch: api.Watch | None = None
        self.moment: Moment | None = None
        self.gone: RunError | None = None

    @property
    def over(self) -> bool:
        """Whether it ended, or is gone."""
        return self.gone is not None or (self.moment is not None and self.moment.ended)

    def look(self) -> Moment:
        """Return what the run has come to."""
        try:
            if self._watch is None:
                self._watch = api.watch(self._path)
            self.moment = self._watch.look()
        except RunError as error:
            if not (self._path / "run.sqlite").is_file():
                self.gone = error
            raise
        return self.moment

    def notes(self) -> list[str]:
        """Return the last notes in its log."""
        return [] if self._watch is None else self._watch.notes()

    def close(self) -> None:
        """Let go of the run."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None


# ---- a folder of runs ----


def _watch_folder(console: Console, path: Path, *, live: bool) -> int:
    runs = RunningRuns(path)
    if live:
        marks = marks_for(console)

        def draw(width: int, height: int) -> list[Text]:
            runs.look()
            hint = Text("q leaves; the searches go on", "dim")
            return [*running_picture(runs, width, height - 1, marks), hint][:height]

        _until_left(Screen(console, draw, whole=True, after=runs.close), lambda: False)
        return 0
    with contextlib.closing(runs):
        while True:
            runs.look()
            for line in running_lines(runs):
                console.print(line, highlight=False)
            if not runs.running:
                return 0
            time.sleep(EVERY)


def _until_left(screen: Screen, over: Callable[[], bool]) -> None:
    """Show a screen until q is pressed, or it is over."""
    with contextlib.suppress(*GONE), Keys() as keys, screen:
        while not over() and "q" not in keys.pressed(0.2).lower():
            pass
