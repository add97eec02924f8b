"""Pages that follow runs: what is drawn when, what is sent, and that a search notices nothing of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from made_runs import made_run

from evomerge.dashboard import live, run_list
from evomerge.dashboard.background import NICE, Background
from evomerge.dashboard.run_list import RunList
from evomerge.errors import RunError
from evomerge.record import Score, Split
from evomerge.report.figure import Figure
from evomerge.store import Database, RunDir

SMALL: dict[str, Any] = {"candidates": 4, "failed": (), "twins": {}, "items": dict.fromkeys(Split, 4)}


class Articles(HTMLParser):
    """The figures of a page, and which of them are only places for what a reader has."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.whole: list[str] = []
        self.same: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = dict(attrs)
        if tag == "article":
            (self.same if "data-same" in has else self.whole).append(str(has["id"]))


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When pages were drawn; at once, so that tests need not wait."""
    found: list[float] = []
    real = live._drawn

    def counting(*given: Any) -> Any:
        found.append(time.monotonic())
        return real(*given)

    monkeypatch.setattr(live, "_drawn", counting)
    return found


def key_of(ask: Any, name: str = "") -> str:
    rows = re.findall(r'<a href="/run/([0-9a-f]+)">([^<]*)', ask("/").text)
    return next(key for key, label in rows if not name or label == name)


def add(path: Path, number: int) -> None:
    """Record one more candidate, as a search does: a better one."""
    with RunDir.open(path, write=True) as run:
        first = run.database.record(0)
        assert first is not None
        score = {Split.SEARCH: Score(0.9, 0.8, 0.95, 8)}
        record = replace(first, number=number, name=f"candidate {number}", fitness=5.0 + number, scores=score)
        run.database.add(record, scores={Split.SEARCH: run.database.item_scores(0, Split.SEARCH)})


def changes(ask: Any, key: str, version: str) -> dict[str, Any]:
    return dict(json.loads(ask(f"/run/{key}/changes?version={version}").text))


def until(ask: Callable[[], dict[str, Any]], true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + 60.0
    while not true(found := ask()):
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def test_a_page_is_that_of_the_report(tmp_path: Path, serve) -> None:
    from evomerge.report.data import RunData
    from evomerge.report.page import render_figure, sections_of

    path = made_run(tmp_path / "run")
    page = (ask := serve(tmp_path)).drawn(f"/run/{key_of(ask)}").text
    with RunData.open(path) as run:
        figures = [figure for section in sections_of([run]) for figure in section.figures]
        assert [str(render_figure(figure)) in page for figure in figures] == [True] * len(figures)
    assert Articles(page).whole == [figure.key for figure in figures]


def test_only_what_changed_is_sent(tmp_path: Path, serve, monkeypatch) -> None:
    monkeypatch.setattr(live, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(live, "TIMES_AS_LONG", 0.0)
    monkeypatch.setattr("evomerge.report.figures.summary.draw", lambda _: Figure("still", "Still", "The same."))
    path = made_run(tmp_path / "run", choice=None, **SMALL)
    ask = serve(tmp_path)
    key = key_of(ask)
    first = re.search(r'data-version="(\w+)"', ask.drawn(f"/run/{key}").text)[1]
    assert changes(ask, key, first) == {"version": first, "running": False}
    add(path, 4)
    found = until(lambda: changes(ask, key, first), lambda one: "5 candidates" in one.get("masthead", ""))
    sent = Articles(found["main"])
    assert (sent.whole, sent.same) == (["progress"], ["still"])
    assert "5 candidates" in found["told"]
    assert not Articles(changes(ask, key, "unknown")["main"]).same  # who has something else gets all


def test_figures_are_drawn_once_for_all_who_look_and_seldom(tmp_path: Path, serve, drawings, monkeypatch) -> None:
    monkeypatch.setattr(live, "LEAST_SECONDS", 1e9)
    path = made_run(tmp_path / "run", choice=None, **SMALL)
    ask = serve(tmp_path)
    key = key_of(ask)
    readers = [threading.Thread(target=lambda: ask.drawn(f"/run/{key}")) for _ in range(8)]
    for one in readers:
        one.start()
    for one in readers:
        one.join()
    assert len(drawings) == 1
    add(path, 4)
    assert "4 candidates" in ask(f"/run/{key}").text
    assert len(drawings) == 1  # not due yet


def test_how_seldom_follows_from_how_long_it_takes(tmp_path: Path, monkeypatch) -> None:
    made_run(tmp_path / "run", **SMALL)
    runs = list(RunList(tmp_path.resolve()).all().values())

    def due_after(took: float) -> float:
        shown = live._being_drawn(runs)
        monkeypatch.setattr(live, "_timed", lambda *_: (shown, took))
        pages = live.LivePages(tmp_path, reading=Background("a"), drawing=Background("b"))
        asyncio.run(pages.show(runs))
        (page,) = pages._pages.values()
        return page.due - time.monotonic()

    assert due_after(0.01) == pytest.approx(live.LEAST_SECONDS, abs=0.5)
    assert due_after(3.0) == pytest.approx(30.0, abs=0.5)


def test_the_pages_that_are_kept_are_few(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(live, "_PAGES", 2)
    monkeypatch.setattr(live, "_timed", lambda _, runs: (live._being_drawn(runs), 0.0))
    for i in range(4):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "run.sqlite").touch()
    pages = live.LivePages(tmp_path, reading=Background("a"), drawing=Background("b"))
    for run in RunList(tmp_path.resolve()).all().values():
        assert asyncio.run(pages.show([run])).title == run.found.place
    assert [key for (key,) in pages._pages] == list(RunList(tmp_path.resolve()).all())[-2:]


def test_a_page_says_that_its_search_ended_and_that_its_run_vanished(tmp_path: Path, serve, monkeypatch) -> None:
    monkeypatch.setattr(live, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(live, "TIMES_AS_LONG", 0.0)
    monkeypatch.setattr("evomerge.dashboard.run_list.FRESH_SECONDS", 0.0)
    path = made_run(tmp_path / "run", choice=None, state="running", **SMALL)
    with RunDir.open(path, write=True):
        ask = serve(tmp_path)
        key = key_of(ask)
        page = ask.drawn(f"/run/{key}").text
        assert 'data-running="yes"' in page and "state running" in page
        version = re.search(r'data-version="(\w+)"', page)[1]
    ended = until(lambda: changes(ask, key, version), lambda one: not one["running"])
    assert "state interrupted" in ended["masthead"]
    shutil.rmtree(path)
    gone = ask(f"/run/{key}/changes?version={version}")
    assert gone.status == 404 and json.loads(gone.text) == {"gone": True}
    assert ask(f"/run/{key}").status == 404


def test_runs_are_compared_on_one_page(tmp_path: Path, serve) -> None:
    for seed in range(3):
        made_run(tmp_path / str(seed), name="study", seed=seed, **SMALL)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.sqlite").touch()
    ask = serve(tmp_path)
    keys = re.findall(r'<a href="/run/([0-9a-f]+)">', ask("/").text)
    query = urlencode([("run", key) for key in keys])
    page = ask.drawn(f"/compare?{query}").text
    assert "study: 3 runs" in page
    assert "broken cannot be read" in page and "is empty" in page
    found = json.loads(ask(f"/compare/changes?{query}&version=none").text)
    assert "study: 3 runs" in found["title"] and "progress" in Articles(found["main"]).whole
    assert ask("/compare").status == 400
    assert ask("/compare?run=none").status == 404
    many = urlencode([("run", str(i)) for i in range(25)])
    assert "at most 24 can be compared" in ask(f"/compare?{many}").text


def test_a_figure_that_fails_is_a_notice_and_a_page_that_fails_says_so(tmp_path: Path, serve, monkeypatch) -> None:
    monkeypatch.setattr(live, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(live, "TIMES_AS_LONG", 0.0)

    def broken(*_: object) -> None:
        raise ValueError("a bug <b>here</b>")

    path = made_run(tmp_path / "run", choice=None, **SMALL)
    ask = serve(tmp_path)
    key = key_of(ask)
    monkeypatch.setattr("evomerge.report.figures.progress.draw", broken)
    assert "could not be drawn: ValueError: a bug &lt;b&gt;here" in ask.drawn(f"/run/{key}").text
    monkeypatch.setattr(live, "title_of", broken)
    add(path, 4)
    until(
        lambda: {"text": ask(f"/run/{key}").text},
        lambda one: "The page could not be drawn: ValueError: a bug &lt;b&gt;here" in one["text"],
    )


# ---- a search notices nothing ----

WRITER = """
import sys, time
from dataclasses import replace
from pathlib import Path
from evomerge.record import Split
from evomerge.store import RunDir

with RunDir.open(sys.argv[1], write=True) as run:
    run.database._db.execute("PRAGMA busy_timeout = 2000")
    first, items = run.database.record(0), run.database.item_scores(0, Split.SEARCH)
    number = 100
    while not Path(sys.argv[2]).exists():
        run.database.add(replace(first, number=number, same_as=None), scores={Split.SEARCH: items})
        number += 1
        time.sleep(0.005)
"""


def test_a_writer_is_never_refused_while_many_look(tmp_path: Path, serve, monkeypatch) -> None:
    monkeypatch.setattr(live, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(live, "TIMES_AS_LONG", 0.0)
    monkeypatch.setattr("evomerge.dashboard.run_list.FRESH_SECONDS", 0.0)
    path = made_run(tmp_path / "run", choice=None, state="running", **SMALL)
    ask = serve(tmp_path)
    key = key_of(ask)
    search = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(tmp_path / "stop")])
    versions: set[str] = set()
    while len(versions) < 4 and search.poll() is None:
        assert ask("/rows").status == 200
        versions.add(changes(ask, key, "")["version"])
        assert "unreadable" not in ask("/").text
    (tmp_path / "stop").touch()
    assert search.wait(timeout=60) == 0  # "database is locked" would have ended it
    assert len(versions) == 4
    with Database.open(path / "run.sqlite") as database:
        assert database.count() > 4


def test_a_database_that_another_program_holds_is_a_line_that_says_so(tmp_path: Path, serve, monkeypatch) -> None:
    for busy in ("run_list.BUSY_SECONDS", "run_list.AGAIN_BUSY_SECONDS", "live.BUSY_SECONDS"):
        monkeypatch.setattr(f"evomerge.dashboard.{busy}", 0.05)
    path = made_run(tmp_path / "run", **SMALL)
    made_run(tmp_path / "other", **SMALL)
    os.utime(path / "run.sqlite", (1e9, 1e9))
    held = sqlite3.connect(path / "run.sqlite", isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    ask = serve(tmp_path)
    page = ask("/").text
    assert "is held by another program" in page and "state complete" in page
    (key,) = (key for key, one in RunList(tmp_path.resolve()).all().items() if one.found.place == "run")
    assert "is held by another program" in ask.drawn(f"/run/{key}").text
    held.close()
    # Nothing was written, so neither the file nor its times tell that it can be read now.
    monkeypatch.setattr(run_list, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(run_list, "AGAIN_SECONDS", 0.0)
    assert "is held by another program" not in ask("/").text


def test_a_page_of_a_run_that_could_be_read_again_is_drawn_again(tmp_path: Path, serve, monkeypatch) -> None:
    for name in ("LEAST_SECONDS", "TIMES_AS_LONG", "AGAIN_SECONDS"):
        monkeypatch.setattr(live, name, 0.0)
    path = made_run(tmp_path / "run", **SMALL)
    os.utime(path / "run.sqlite", (1e9, 1e9))
    ask = serve(tmp_path)
    key = key_of(ask)  # it can be read when it is listed, and not when it is drawn

    def held(*_: object, **__: object) -> None:
        raise RunError("the database is held by another program")

    with monkeypatch.context() as now:
        now.setattr(live, "open_run", held)
        assert "is held by another program" in ask.drawn(f"/run/{key}").text
    while "is held by another program" in ask.drawn(f"/run/{key}").text:
        time.sleep(0.01)
    assert "state complete" in ask(f"/run/{key}").text


def test_a_run_with_nonsense_in_it_is_left_out_and_those_beside_it_stand(tmp_path: Path, serve) -> None:
    made_run(tmp_path / "good", **SMALL)
    made_run(tmp_path / "odd", config={"budget": ["nonsense"]}, **SMALL)
    ask = serve(tmp_path)
    keys = RunList(tmp_path.resolve()).all()
    page = ask.drawn("/compare?" + urlencode([("run", key) for key in keys])).text
    assert "odd cannot be read" in page and "AttributeError" in page and "state complete" in page


def test_looking_at_what_a_killed_search_left_changes_no_byte(tmp_path: Path, serve, monkeypatch) -> None:
    monkeypatch.setattr("evomerge.dashboard.run_list.FRESH_SECONDS", 0.0)
    path = made_run(tmp_path / "run", choice=None, state="running", **SMALL)
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys\nfrom evomerge.store import RunDir\n"
            "run = RunDir.open(sys.argv[1], write=True)\nrun.database._db.execute('PRAGMA cache_size = 1')\n"
            "with run.database.together():\n"
            "    for i in range(400): run.database.set_meta(f'key {i}', 'x' * 4000)\n"
            "    os.kill(os.getpid(), 9)\n",
            str(path),
        ],
        check=False,
    )
    assert killed.returncode == -9
    assert any((path / "run.sqlite-journal").read_bytes()[:8]), "or this test shows nothing"

    def content() -> dict[str, tuple[bytes, int]]:
        return {one.name: (one.read_bytes(), one.stat().st_mtime_ns) for one in path.iterdir()}

    before = content()
    ask = serve(tmp_path)
    page = ask.drawn(f"/run/{key_of(ask)}").text
    assert "state interrupted" in page and "4 candidates" in page and "progress" in Articles(page).whole
    assert content() == before
    with Database.open(path / "run.sqlite") as database:
        assert database.get_meta("key 0") is None


# ---- threads ----


def test_what_is_done_in_the_background_stands_back_and_gives_its_errors() -> None:
    import os

    background = Background("test")
    nice = background.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result(10)
    if sys.platform == "linux":
        assert nice == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICE)
    with pytest.raises(ZeroDivisionError):
        background.submit(lambda: 1 // 0).result(10)
    assert background.submit(lambda: 7).result(10) == 7
