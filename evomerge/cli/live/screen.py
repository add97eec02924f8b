"""A view that is drawn again and again, in a thread of its own, as seldom as it must be to cost next to nothing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from evomerge.cli.live.above import printed_above

GONE = (OSError, ValueError)
"""Errors of an output whose reader is gone, or that was closed; neither ends what is shown."""

FASTEST, SLOWEST = 0.25, 5.0
"""Seconds between two drawings: at least, and at most."""

SHARE = 0.005
"""The most of a core's time that drawing takes: where it takes longer, it is done less often."""

Draw = Callable[[int, int], Sequence[Text]]
"""Returns the lines of a view of a width and a height."""


class Screen:
    """Draws a view on a terminal until it is closed.

    The view's height never shrinks and it is redrawn only where it changed, so nothing jumps or flickers. What else is
    printed meanwhile stands above it.

    Args:
        console: the terminal.
        draw: returns the lines; called in the screen's thread. What it raises is taken as no change.
        whole: whether the view has the whole screen, which is as it was when it ends.
        share: the most of a core's time that drawing may take.
        after: called at the end of the screen's thread, to let go of what `draw` holds.
    """

    def __init__(
        self,
        console: Console,
        draw: Draw,
        *,
        whole: bool = False,
        share: float = SHARE,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self._after = after
        self._console, self._draw, self._whole, self._share = console, draw, whole, share
        self._live = Live(Text(), console=console, auto_refresh=False, screen=whole, transient=not whole,
                          redirect_stdout=False, redirect_stderr=False)  # fmt: skip
        self._streams = contextlib.ExitStack()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._lines: list[Text] = []
        self._size = (0, 0)
        self.failed: BaseException | None = None
        """What the last drawing raised; None: it went well."""

    def __enter__(self) -> Screen:
        try:
            with contextlib.suppress(*GONE):
                self._live.__enter__()
            self._streams.enter_context(printed_above(self._console))
            self._thread = threading.Thread(target=self._run, name="evomerge view", daemon=True)
            self._thread.start()
        except BaseException:  # Ctrl-C, say: the terminal must be as it was
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5.0)
            self._thread = None
        self._streams.close()
        with contextlib.suppress(*GONE):
            self._live.__exit__(None, None, None)

    def soon(self) -> None:
        """Draw again as soon as that is allowed."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.thread_time()
            self._wake.clear()
            self._once()
            cost = time.thread_time() - began
            pause = min(max(cost / self._share, FASTEST), SLOWEST)
            if not self._stop.wait(pause):
                # Clocks of the view show seconds: without news there is nothing to draw before the next one.
                self._wake.wait(max(1.0 - pause, 0.0))
        self._after()

    def _once(self) -> None:
        size = self._console.size
        try:
            lines = list(self._draw(size.width, max(size.height - (0 if self._whole else 1), 1)))
            self.failed = None
        except Exception as error:  # a run that cannot be read just now, say; the search goes on
            self.failed = error
            return
        narrower = size.width < self._size[0]
        if tuple(size) == self._size:
            lines += [Text()] * (len(self._lines) - len(lines))
        if not narrower and lines == self._lines and tuple(size) == self._size:
            return
        self._lines, self._size = lines, (size.width, size.height)
        with contextlib.suppress(*GONE):
            if narrower and not self._whole:
                self._console.clear()  # lines that were as wide as the terminal are broken now
            self._live.update(_group(lines), refresh=True)


def _group(lines: Sequence[Text]) -> Group:
    for line in lines:
        line.no_wrap = True
    return Group(*lines)
