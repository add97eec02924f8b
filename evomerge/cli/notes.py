"""Sentences that the user should know, beside a command's output; no library is loaded before the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evomerge.cli.quiet import is_quiet
from evomerge.system.advance import Advance, NowAndThen
from evomerge.system.text import visible

if TYPE_CHECKING:
    from rich.console import Console


class Notes:
    """Prints sentences that the user should know, beside the output proper.

    An `Advance` stands on one line of a terminal until the next sentence; elsewhere a few of them are printed.
    """

    def __init__(self) -> None:
        self._now_and_then = NowAndThen()
        self._passing = False

    def __call__(self, text: str) -> None:
        """Print a sentence."""
        if is_quiet():
            return
        from evomerge.cli.console import make_console

        console = make_console(stderr=True)
        if not isinstance(text, Advance):
            self._clear(console)
            console.print(text, highlight=False, soft_wrap=True)
        elif console.is_terminal and not console.is_dumb_terminal:
            self._clear(console)
            console.file.write(visible(text)[: console.width - 1])
            console.file.flush()
            self._passing = True
        elif self._now_and_then.due():
            console.print(text, highlight=False, soft_wrap=True)

    def _clear(self, console: Console) -> None:
        if self._passing:
            console.file.write("\r\x1b[2K")
            self._passing = False


say_note = Notes()
"""Prints the sentences of a command that has no display of its own."""
