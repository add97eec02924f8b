"""A page about runs that follows them: figures are drawn again when a run changed, however many look at them.

A search must not be slowed by who watches it, so figures are drawn in a thread that stands back, at most as often as
leaves it idle nine tenths of the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from markupsafe import Markup

from evomerge.dashboard.background import Background
from evomerge.dashboard.folder import check
from evomerge.dashboard.run_list import AGAIN_SECONDS, ListedRun
from evomerge.errors import EvomergeError
from evomerge.record import Split
from evomerge.report.data import RunData, score
from evomerge.report.figure import Figure
from evomerge.report.figures import Problem
from evomerge.report.groups import labels_of
from evomerge.report.numbers import score_style
from evomerge.report.overview import BUSY_SECONDS
from evomerge.report.page import PageSection, render, render_figure, sections_of, title_of
from evomerge.report.runs import open_run
from evomerge.store.run_dir import DATABASE
from evomerge.store.status import RUNNING, is_written
from evomerge.store.untouched import settled_stamp
from evomerge.system.text import error_text, json_text

log = logging.getLogger(__name__)

LEAST_SECONDS, TIMES_AS_LONG = 2.0, 10.0
"""Figures are drawn again after at least so many seconds, and so many times what drawing them took of a core."""

KIND = "evomerge dashboard"
"""What stands above the name of a page."""

PATIENCE_SECONDS = 2.0
"""So long a reader waits for a page that nobody has looked at yet."""

_PAGES, _VERSIONS = 16, 64
"""So many pages are kept, and of each so many versions that a reader may have."""


@dataclass(frozen=True)
class DrawnPage:
    """What a page shows of some runs at one moment.

    Attributes:
        version: differs where anything that is shown does.
        title: of the page.
        masthead, contents: HTML of these parts.
        left_out: sentences about runs that cannot be read.
        sections: of the page.
        figures: the HTML of each figure, by key; `digests`: of that.
        running: whether one of the runs goes on.
        failed: whether there is a run that could not be read, or nothing could be drawn: a later try may succeed.
        told: what is said to who hears the page.
    """

    version: str
    title: str
    masthead: str
    contents: str
    left_out: tuple[str, ...]
    sections: Sequence[PageSection]
    figures: Mapping[str, Markup]
    digests: Mapping[str, str]
    running: bool
    failed: bool
    told: str

    def main(self, had: Mapping[str, str]) -> str:
        """Return the HTML of the sections, with an empty place for each figure that a reader has already.

        Args:
            had: the digests of the figures that the reader has.
        """

        def place(figure: Figure | Problem, *, strict: bool) -> Markup:
            if had.get(figure.key) == self.digests[figure.key]:
                return Markup('<article id="{}" data-same></article>').format(figure.key)
            return self.figures[figure.key]

        return render("sections.html", sections=self.sections, left_out=self.left_out, figure_html=place, strict=False)


@dataclass
class _Page:
    shown: DrawnPage | None = None
    stamps: object = None
    due: float = 0.0
    drawing: Future[tuple[DrawnPage, float]] | None = None
    versions: OrderedDict[str, Mapping[str, str]] = field(default_factory=OrderedDict)


class LivePages:
    """The pages that somebody looked at of late. The server calls it from its one thread."""

    def __init__(self, root: Path, *, reading: Background, drawing: Background) -> None:
        self._root = root
        self._reading = reading
        self._drawing = drawing
        self._pages: OrderedDict[tuple[str, ...], _Page] = OrderedDict()

    async def show(self, runs: Sequence[ListedRun]) -> DrawnPage:
        """Return what a page about some runs shows, as it was drawn last; where they changed, it is drawn anew.

        A page that is drawn for the first time is waited for a moment, then one that says so takes its place.
        """
        stamps = await self._reading.run(lambda: _stamps_of(runs))
        page = self._page(runs)
        _take(page)
        if page.drawing is None and page.stamps != stamps and time.monotonic() >= page.due:
            page.stamps = stamps
            page.drawing = self._drawing.submit(lambda: _timed(self._root, runs))
        if page.shown is None and page.drawing is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(page.drawing)), PATIENCE_SECONDS)
            _take(page)
        return page.shown or _being_drawn(runs)

    def had(self, runs: Sequence[ListedRun], version: str) -> Mapping[str, str]:
        """Return the digests of the figures of an earlier version; none, if it is not known any more."""
        return self._page(runs).versions.get(version, {})

    def _page(self, runs: Sequence[ListedRun]) -> _Page:
        key = tuple(run.found.key for run in runs)
        page = self._pages.setdefault(key, _Page())
        self._pages.move_to_end(key)
        while len(self._pages) > _PAGES:
            self._pages.popitem(last=False)
        return page


def _being_drawn(runs: Sequence[ListedRun]) -> DrawnPage:
    """Return what stands in the place of a page that is not drawn yet."""
    title = " · ".join(run.found.place if run.overview is None else run.overview.name for run in runs)
    return DrawnPage(
        version="",
        title=title,
        masthead=str(render("masthead.html", kind=KIND, title=title, runs=[])),
        contents="",
        left_out=("The figures are being drawn. They appear by themselves.",),
        sections=(),
        figures={},
        digests={},
        running=True,
        failed=False,
        told="",
    )


def _take(page: _Page) -> None:
    """Let a page show what was drawn."""
    if page.drawing is None or not page.drawing.done():
        return
    drawing, page.drawing = page.drawing, None
    page.shown, took = drawing.result()
    page.due = time.monotonic() + max(AGAIN_SECONDS if page.shown.failed else LEAST_SECONDS, TIMES_AS_LONG * took)
    if page.shown.failed:
        page.stamps = None
    page.versions[page.shown.version] = page.shown.digests
    while len(page.versions) > _VERSIONS:
        page.versions.popitem(last=False)


def _stamps_of(runs: Sequence[ListedRun]) -> object:
    """Return what differs after one of the runs was written, or its search ended; cheap."""
    return [
        (settled_stamp(run.found.path / DATABASE), run.state if run.state != RUNNING else is_written(run.found.path))
        for run in runs
    ]


def _timed(root: Path, runs: Sequence[ListedRun]) -> tuple[DrawnPage, float]:
    begun = time.thread_time()  # what it takes of a core: on a busy machine it lasts many times as long
    try:
        shown = _drawn(root, runs)
    except Exception as error:  # the page says it, and goes on
        log.warning("a page cannot be drawn", exc_info=True)
        shown = _shown([], [], [f"The page could not be drawn: {error_text(error, name=True)}"], failed=True)
    return shown, time.thread_time() - begun


def _drawn(root: Path, runs: Sequence[ListedRun]) -> DrawnPage:
    opened: list[RunData] = []
    left_out = []
    failed = False
    with ExitStack() as closing:
        for run in runs:
            if run.found.begun:
                left_out.append(f"{run.found.place}: nothing has been recorded yet")
                continue
            try:
                opened.append(closing.enter_context(open_run(check(root, run.found), busy_seconds=BUSY_SECONDS)))
            except EvomergeError as error:
                left_out.append(f"{run.found.place} cannot be read: {error_text(error)}")
                failed = True
        return _shown(opened, sections_of(opened) if opened else [], left_out, failed=failed)


def _shown(
    runs: Sequence[RunData], sections: Sequence[PageSection], left_out: Sequence[str], *, failed: bool
) -> DrawnPage:
    figures = {figure.key: render_figure(figure) for section in sections for figure in section.figures}
    digests = {key: digest(html) for key, html in figures.items()}
    title = title_of(runs) if runs else "No run can be read"
    states = [str(run.status["state"]) for run in runs]
    masthead = render(
        "masthead.html",
        kind=KIND,
        title=title,
        runs=list(zip(runs, labels_of(runs), strict=True)),
        made=datetime.now().astimezone().strftime("%H:%M:%S"),
    )
    contents = render("contents.html", sections=sections)
    facts = [digests, [dict(run.status) for run in runs], list(left_out)]
    return DrawnPage(
        version=digest(json_text(facts)),
        title=title,
        masthead=str(masthead),
        contents=str(contents),
        left_out=tuple(left_out),
        sections=sections,
        figures=figures,
        digests=digests,
        running=RUNNING in states,
        failed=failed,
        told=_told(runs),
    )


def _told(runs: Sequence[RunData]) -> str:
    """Return in a sentence where the runs stand."""
    said = []
    for run, label in zip(runs, labels_of(runs), strict=True):
        best, split = run.best, Split.SEARCH
        found = None if best is None else score(best, split)
        good = "" if found is None else f", best {score_style(run).score(found)} on search items"
        who = f"{label}: " if len(runs) > 1 else ""
        said.append(f"{who}{run.status['state']}, {run.status['candidates']:,} candidates{good}")
    return "; ".join(said)


def digest(text: str) -> str:
    """Return a few letters that differ where texts do."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
