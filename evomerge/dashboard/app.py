"""Addresses to pages: the list, runs and comparisons, and what changes in them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, PackageLoader
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from evomerge.dashboard.background import Background
from evomerge.dashboard.live import DrawnPage, LivePages, digest
from evomerge.dashboard.rows import ROWS_AT_MOST, RunRow, Wish, chosen, rows_of
from evomerge.dashboard.run_list import ListedRun, RunList
from evomerge.report.assets import chart_library, page_script, style_sheet
from evomerge.report.page import environment, render

STATIC = Path(__file__).parent / "static"

MOST_COMPARED = 24
"""So many runs are compared at most."""

_FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}


class Dashboard:
    """The pages over the runs of one folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._reading, self._drawing = Background("reading runs"), Background("drawing figures")
        self._runs = RunList(self.root)
        self._rows: list[RunRow] = []
        self._pages = LivePages(self.root, reading=self._reading, drawing=self._drawing)
        # What all pages need is made once, in the background, since the library of charts may take seconds.
        self._assets = self._drawing.submit(_assets)
        add_templates()

    def app(self) -> Starlette:
        """Return what answers requests."""
        return Starlette(
            routes=[
                Route("/", self.show_list),
                Route("/rows", self.show_rows),
                Route("/run/{key}", self.show_run),
                Route("/run/{key}/changes", self.show_changes),
                Route("/compare", self.show_run),
                Route("/compare/changes", self.show_changes),
                Route("/static/{name}", self.show_asset),
            ],
            exception_handlers={404: self._not_found},
        )

    async def show_list(self, request: Request) -> Response:
        """Answer with the list of all runs."""
        wish, linked = Wish.of(request.query_params), await self._linked()
        return HTMLResponse(await self._reading.run(lambda: render("list.html", **self._list(wish), **linked)))

    async def show_rows(self, request: Request) -> Response:
        """Answer with what changes in the list."""
        wish = Wish.of(request.query_params)
        parts = await self._reading.run(lambda: self._changing(wish))
        version = digest("".join(parts.values()))
        known = request.query_params.get("version") == version
        return JSONResponse({"version": version, **({} if known else parts)})

    async def show_run(self, request: Request) -> Response:
        """Answer with the page of a run, or of several."""
        runs = await self._asked(request)
        if isinstance(runs, Response):
            return runs
        shown = await self._pages.show(runs)
        changes = f"{request.url.path}/changes" + (f"?{request.url.query}" if request.url.query else "")
        values = {"shown": shown, "main": Markup(shown.main({})), "changes": changes, "compared": len(runs) > 1}
        return HTMLResponse(render("run.html", **values, **await self._linked()))

    async def show_changes(self, request: Request) -> Response:
        """Answer with what changed in such a page since a version of it."""
        runs = await self._asked(request)
        if isinstance(runs, Response):
            return JSONResponse({"gone": True}, runs.status_code)
        shown = await self._pages.show(runs)
        had = request.query_params.get("version", "")
        found: dict[str, Any] = {"version": shown.version, "running": shown.running}
        if had != shown.version:
            found |= _parts(shown) | {"main": shown.main(self._pages.had(runs, had))}
        return JSONResponse(found)

    async def show_asset(self, request: Request) -> Response:
        """Answer with a script or a style sheet, which a browser may keep."""
        found = (await self._made()).get(request.path_params["name"])
        if found is None:
            return self._sorry("There is no such file.")
        kind, text = found
        return Response(text, media_type=kind, headers=_FOR_EVER)

    # ---- inside ----

    def _changing(self, wish: Wish) -> dict[str, str]:
        values = self._list(wish)
        return {"rows": str(render("rows.html", **values)), "choices": str(render("choices.html", **values))}

    def _list(self, wish: Wish) -> dict[str, Any]:
        """Return what the list shows; with hundreds of runs that takes a while, so it is called in a thread."""
        runs = self._runs.all().values()
        if [row.run for row in self._rows] != list(runs):
            self._rows = rows_of(runs)
        rows = self._rows
        found = chosen(rows, wish)
        return {
            "root": self.root,
            "wish": wish,
            "rows": found[:ROWS_AT_MOST],
            "more": max(0, len(found) - ROWS_AT_MOST),
            "n": len(rows),
            "cut": self._runs.cut,
            "states": sorted({row.run.state for row in rows}),
            "tasks": sorted({task for row in rows if row.run.overview is not None for task in row.run.overview.tasks}),
        }

    async def _asked(self, request: Request) -> list[ListedRun] | Response:
        """Return the runs that an address names; or what to answer where there is one that is not there."""
        keys = [request.path_params["key"]] if "key" in request.path_params else request.query_params.getlist("run")
        keys = list(dict.fromkeys(keys))
        if not keys:
            return self._sorry("No run was chosen. Tick some in the list, and press “Compare”.", 400)
        if len(keys) > MOST_COMPARED:
            return self._sorry(f"{len(keys)} runs were chosen, but at most {MOST_COMPARED} can be compared.", 400)
        found = await self._reading.run(lambda: [self._runs.get(key) for key in keys])
        runs = [run for run in found if run is not None]
        if not runs or (len(keys) == 1 and len(runs) < len(keys)):
            return self._sorry("This run is not there, or not there any more.")
        return runs

    async def _not_found(self, request: Request, error: Exception) -> Response:
        return self._sorry("There is no such page.")

    def _sorry(self, what: str, status: int = 404) -> Response:
        return HTMLResponse(render("sorry.html", what=what), status)

    async def _made(self) -> dict[str, tuple[str, str]]:
        return await asyncio.shield(asyncio.wrap_future(self._assets))

    async def _linked(self) -> dict[str, Sequence[str]]:
        names = list(await self._made())
        return {
            "styles": [name for name in names if name.endswith(".css")],
            "scripts": [name for name in names if name.endswith(".js")],
        }


def add_templates() -> None:
    """Let the templates of the page be found together with those of the dashboard."""
    found = environment()
    found.filters["markup"] = Markup
    if not isinstance(found.loader, ChoiceLoader):
        assert found.loader is not None
        found.loader = ChoiceLoader([found.loader, PackageLoader("evomerge.dashboard", "templates")])


def _parts(shown: DrawnPage) -> dict[str, Any]:
    return {"title": shown.title, "masthead": shown.masthead, "contents": shown.contents, "told": shown.told}


def _assets() -> dict[str, tuple[str, str]]:
    """Return what pages load, by a name that differs where the content does: its media type and its text."""
    script, style = "text/javascript", "text/css"
    files = [
        ("page", "css", style, style_sheet() + "\n" + (STATIC / "dashboard.css").read_text(encoding="utf-8")),
        ("charts", "js", script, chart_library()),
        ("page", "js", script, page_script()),
        ("dashboard", "js", script, (STATIC / "dashboard.js").read_text(encoding="utf-8")),
    ]
    return {f"{name}-{digest(text)}.{end}": (kind, text) for name, end, kind, text in files}
