"""The display of a search while it runs: a live view on a terminal, plain lines elsewhere, nothing where it is quiet.

Both read the run, as those do who watch it from elsewhere (`evomerge top`); the search only says that there is news.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from pathlib import Path

from rich.console import Console
from rich.text import Text

from evomerge.api import Moment, Record, Score, Split, Watch, watch
from evomerge.cli.console import make_console
from evomerge.cli.live.lines import best_words, gain_words, progress_words, record_words
from evomerge.cli.live.marks import marks_for
from evomerge.cli.live.picture import last_picture, picture
from evomerge.cli.live.rows import fitted
from evomerge.cli.live.said import said
from evomerge.cli.live.screen import GONE, Screen
from evomerge.cli.quiet import is_quiet
from evomerge.errors import EvomergeError
from evomerge.system.advance import Advance, NowAndThen
from evomerge.system.text import visible

PLAIN_SECONDS = 10.0
"""How often, at least, a line is printed without a terminal, in seconds; improvements are always printed."""

_KEPT = 20


class Display:
    """Shows a search while it runs; give it to `evomerge.api.search` as the listener.

    Args:
        console: where to write: a live view if it is a terminal, else plain lines.
        quiet: whether nothing is shown; None: as the command line says.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool | None = None) -> None:
        self.console = console or make_console()
        self._quiet = is_quiet() if quiet is None else quiet
        self._marks = marks_for(self.console)
        self._folder: Path | None = None
        self._phase = ""
        self._notes: deque[str] = deque(maxlen=_KEPT)
        self._advance: str | None = None
        self._now_and_then = NowAndThen()
        self._screen: Screen | None = None
        self._eyes = _Eyes()  # of the screen's thread
        self._own_eyes = _Eyes()  # of the search's thread, for plain lines
        self._last_line = time.monotonic()
        self._left_out = 0
        self._best = float("-inf")

    def __enter__(self) -> Display:
        if self.console.is_terminal and not self.console.is_dumb_terminal and not self._quiet:
            self._screen = Screen(self.console, self._draw, after=self._eyes.close)
            self._screen.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._tell_left_out()
        screen, self._screen = self._screen, None
        if screen is not None:
            screen.__exit__()
            moment = self._look(self._own_eyes)
            if moment is not None:
                self._stay(moment)
        self._own_eyes.close()

    # ---- what the search tells ----

    def attach(self, folder: Path) -> None:
        """Take note of the run's folder, which is read from now on."""
        self._folder = folder

    def note(self, text: str) -> None:
        """Show a sentence, for example what is being loaded; lost where nobody reads the output any more.

        On a terminal sentences stand above the view until the first phase begins, then in it.
        """
        if self._quiet:
            return
        if isinstance(text, Advance) and (self._screen is not None or not self._now_and_then.due()):
            self._advance = text
            self._soon()
            return
        self._advance = None
        if self._screen is not None and self._phase:
            self._notes.append(text)
            self._soon()
            return
        with contextlib.suppress(*GONE):
            self.console.print(text, highlight=False)

    def phase(self, name: str, total: int | None, done: int) -> None:
        """Show that a phase of the search begins."""
        self._tell_left_out()
        self._phase, self._advance = name or "search", None
        if total is not None and done > total:
            self.note(f"{name}: the run has {done} candidates already; nothing more to search with a budget of {total}")
        elif self._screen is None:
            size = f" {total} candidates" if total is not None else ""
            self.note(f"{name}:{size}" + (f" ({done} done before)" if done else ""))
        if self._screen is None and not self._quiet:
            moment = self._look(self._own_eyes)
            if moment is not None and moment.fitness is not None:
                self._best = max(self._best, moment.fitness)
        self._soon()

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        """Show that a candidate was scored."""
        if self._quiet:
            return
        if self._screen is None:
            self._line(record, split, score)
        self._soon()

    # ---- plain lines ----

    def _line(self, record: Record, split: Split, score: Score | None) -> None:
        searching = split == Split.SEARCH and not record.is_baseline
        improved = searching and record.fitness is not None and record.fitness > self._best
        if improved and record.fitness is not None:
            self._best = record.fitness
        due = time.monotonic() - self._last_line > PLAIN_SECONDS
        if searching and not (improved or due or record.error or record.is_consensus):
            self._left_out += 1
            return
        moment = self._look(self._own_eyes)
        said = [record_words(record, split, score, worst=moment is not None and moment.worst)]
        if moment is not None and improved:
            gain = gain_words(moment)
            said[0] += f", the best so far{f', {gain}' if gain else ''}"
        elif moment is not None and searching and (best := best_words(moment)):
            said.append(best)
        where = visible(self._phase) if moment is None else progress_words(moment)
        self.note(f"{where}: {'; '.join(said)}")
        self._last_line = time.monotonic()

    def _tell_left_out(self) -> None:
        """Say how many candidates had no line of their own since the phase began."""
        if self._left_out:
            self.note(f"({self._left_out} more in run.log)")
        self._left_out = 0

    # ---- the view ----

    def _soon(self) -> None:
        if self._screen is not None:
            self._screen.soon()

    def _look(self, eyes: _Eyes) -> Moment | None:
        return None if self._folder is None else eyes.look(self._folder)

    def _draw(self, width: int, height: int) -> list[Text]:
        passing = [] if self._advance is None else [fitted(Text(visible(self._advance)), width, self._marks)]
        moment = self._look(self._eyes) if self._phase else None
        if moment is None:
            notes = said(list(self._notes), width, self._marks, 3) if self._phase else []
            return passing + notes
        shown = [*self._notes, *([] if self._advance is None else [self._advance])]
        return picture(moment, shown, width, height, self._marks)

    def _stay(self, moment: Moment) -> None:
        """Print what stays of the view above the tables, with the warnings that were said in it."""
        width = self.console.width
        with contextlib.suppress(*GONE):
            for line in last_picture(moment, width, self._marks):
                self.console.print(line, highlight=False, soft_wrap=True)
            for note in self._notes:
                if note.startswith("warning"):
                    self.console.print(note, highlight=False)


class _Eyes:
    """Looks at the run for one thread; what cannot be read is not seen."""

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._last: Moment | None = None

    def look(self, folder: Path) -> Moment | None:
        """Return what the run has come to; where it cannot be read just now, what it was before."""
        try:
            if self._watch is None:
                self._watch = watch(folder)
            self._last = self._watch.look()
        except EvomergeError:
            pass
        return self._last

    def close(self) -> None:
        """Let go of the run."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
