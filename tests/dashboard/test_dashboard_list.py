"""The list: what a folder may hold, in which order it is shown, and how little is read for it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_runs import HOSTILE, made_run

from evomerge.dashboard import run_list
from evomerge.dashboard.folder import find
from evomerge.dashboard.rows import RunRow, Wish, ago, chosen, rows_of
from evomerge.dashboard.run_list import RunList
from evomerge.record import Split
from evomerge.report.groups import tags_of
from evomerge.report.overview import overview_of
from evomerge.store import RunDir
from evomerge.store.status import run_status
from evomerge.system.text import html

SMALL: dict[str, Any] = {"candidates": 3, "failed": (1,), "twins": {}, "items": dict.fromkeys(Split, 4)}


def listed(root: Path) -> dict[str, RunRow]:
    """The lines of a folder by place."""
    return {row.run.found.place: row for row in rows_of(RunList(root.resolve()).all().values())}


def shown(rows: Sequence[RunRow], **wish: Any) -> list[str]:
    return [row.run.found.place for row in chosen(rows, Wish(**wish))]


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.append(tag)


# ---- which runs there are ----


def test_runs_are_found_in_names_sweeps_and_further_down_but_not_through_links(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "outputs", tmp_path / "elsewhere"
    for place in ("study/2026-01-01", "sweep/now/0", "sweep/now/1", ".hidden/0"):
        made_run(root / place, **SMALL)
    made_run(elsewhere / "secret", **SMALL)
    (root / "link").symlink_to(elsewhere)
    (root / "study" / "circle").symlink_to(root)
    (root / "sweep" / "itself").symlink_to("itself")
    inside = root / "borrowed"
    inside.mkdir()
    (inside / "run.sqlite").symlink_to(elsewhere / "secret" / "run.sqlite")
    found = listed(root)
    assert list(found) == ["borrowed", "study/2026-01-01", "sweep/now/0", "sweep/now/1"]
    assert found["borrowed"].run.state == "unreadable"
    assert "a link, which is not followed" in found["borrowed"].why


def test_a_folder_that_is_a_run_is_a_list_of_it(tmp_path: Path) -> None:
    assert list(listed(made_run(tmp_path / "one", **SMALL))) == ["one"]


def test_what_cannot_be_read_says_why_and_the_others_stand(tmp_path: Path, serve) -> None:
    made_run(tmp_path / "good", **SMALL)
    for name in ("empty", "folder", "pipe", "text", "cut", "newer", "older", "no tables", "journal pipe"):
        (tmp_path / name).mkdir()
    (tmp_path / "empty" / "run.sqlite").touch()
    (tmp_path / "folder" / "run.sqlite").mkdir()
    os.mkfifo(tmp_path / "pipe" / "run.sqlite")
    (tmp_path / "text" / "run.sqlite").write_text("no database " * 1000)
    whole = (tmp_path / "good" / "run.sqlite").read_bytes()
    (tmp_path / "cut" / "run.sqlite").write_bytes(whole[: len(whole) // 2])
    for name, version in (("newer", 99), ("older", 1)):
        shutil.copy(tmp_path / "good" / "run.sqlite", tmp_path / name)
        db = sqlite3.connect(tmp_path / name / "run.sqlite")
        db.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(version),))
        db.commit()
        db.close()
    sqlite3.connect(tmp_path / "no tables" / "run.sqlite").execute("CREATE TABLE meta (key, value)").connection.commit()
    shutil.copy(tmp_path / "good" / "run.sqlite", tmp_path / "journal pipe")
    os.mkfifo(tmp_path / "journal pipe" / "run.sqlite-journal")
    odd = made_run(tmp_path / "odd files", **SMALL)
    (odd / "config.yaml").write_bytes(b"\x00: [" * 3_000_000)
    (odd / "environment.json").unlink()
    os.mkfifo(odd / "environment.json")
    found = listed(tmp_path)
    why = {name: row.why for name, row in found.items() if row.run.state == "unreadable"}
    assert "is empty" in why["empty"]
    assert why["folder"] == "run.sqlite is a folder, not a database"
    assert why["pipe"] == "run.sqlite is no ordinary file"
    assert "damaged" in why["text"] and "damaged" in why["cut"]
    assert "upgrade evomerge" in why["newer"] and "of an evomerge before this one" in why["older"]
    assert "its format is" in why["no tables"]
    assert "no ordinary file" in why["journal pipe"]
    assert found["good"].run.state == found["odd files"].run.state == "complete"
    ask = serve(tmp_path)
    assert len(re.findall(r'<tr id="run-', ask("/").text)) == 11
    for name in [*why, "odd files"]:
        page = ask.drawn(f"/run/{found[name].key}")
        assert page.status == 200
        assert name == "odd files" or "cannot be read" in page.text


def test_a_folder_without_permission_is_a_line_with_the_reason(tmp_path: Path, monkeypatch) -> None:
    made_run(tmp_path / "good", **SMALL)
    (tmp_path / "closed").mkdir()
    real = os.scandir

    def scandir(path: Path) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("evomerge.dashboard.folder.os.scandir", scandir)
    found = listed(tmp_path)
    assert found["closed"].why == "the folder cannot be read: Permission denied"
    assert found["good"].run.state == "complete"


def test_a_search_that_opens_its_models_is_starting_and_one_that_ended_then_is_not_begun(tmp_path: Path) -> None:
    from evomerge.store.lock import WriterLock

    for name in ("now", "before"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
        (tmp_path / name / "run.lock").touch()
    lock = WriterLock(tmp_path / "now" / "run.lock")
    try:
        assert {name: row.run.state for name, row in listed(tmp_path).items()} == {
            "now": "starting",
            "before": "not begun",
        }
    finally:
        lock.release()


def test_too_many_folders_are_not_all_looked_into(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("evomerge.dashboard.folder.MOST_FOLDERS", 3)
    for i in range(5):
        (tmp_path / str(i)).mkdir()
    assert find(tmp_path).cut
    monkeypatch.setattr("evomerge.dashboard.folder.MOST_FOLDERS", 100)
    assert not find(tmp_path).cut


# ---- what is read ----


def test_an_overview_says_what_the_status_says(tmp_path: Path) -> None:
    for changes in (
        {},
        {"choice": None},
        {"candidates": 0, "choice": None},
        {"choice": "front"},
        {"failed": range(16)},
    ):
        path = made_run(tmp_path / f"{len(list(tmp_path.iterdir()))}", **changes)
        found = overview_of(path)
        with RunDir.open(path) as run:
            status = run_status(run)
        assert (found.name, found.state, found.candidates, found.failed, found.budget) == (
            status["name"],
            status["state"],
            status["candidates"],
            status["failed"],
            status["budget"],
        )
        best = status["best"]
        assert (None if found.best is None else found.best.to_data()) == (best and best[str(found.split)])
        assert found.parent_name in ("math", "words", "code")


def test_a_run_is_read_again_when_it_was_written_and_not_otherwise(tmp_path: Path, monkeypatch) -> None:
    for name in ("a", "b"):
        made_run(tmp_path / name, choice=None, **SMALL)
        os.utime(tmp_path / name / "run.sqlite", (1e9, 1e9))
    read: list[str] = []

    def counting(path: Path, **options: Any) -> Any:
        read.append(path.name)
        return overview_of(path, **options)

    monkeypatch.setattr(run_list, "overview_of", counting)
    monkeypatch.setattr(run_list, "FRESH_SECONDS", 0.0)
    runs = RunList(tmp_path.resolve())
    for _ in range(3):
        assert len(runs.all()) == 2
    assert sorted(read) == ["a", "b"]
    with RunDir.open(tmp_path / "a", write=True) as run:
        run.database.set_meta("state", "complete")
    assert {one.found.place: one.state for one in runs.all().values()} == {"a": "complete", "b": "interrupted"}
    assert set(read[2:]) == {"a"}
    made_run(tmp_path / "c", **SMALL)
    assert len(runs.all()) == 3
    shutil.rmtree(tmp_path / "b")
    assert sorted(one.found.place for one in runs.all().values()) == ["a", "c"]


# ---- order and words ----


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[RunRow]:
    root = tmp_path_factory.mktemp("runs")
    made_run(root / "one", name="Study", seed=0, **SMALL)
    made_run(root / "two", name="Study", seed=1, config={"optimizer": {"name": "random"}}, choice=None, **SMALL)
    made_run(root / "three", name="other", **{**SMALL, "candidates": 0, "choice": None, "baselines": False})
    (root / "four").mkdir()
    (root / "four" / "run.sqlite").touch()
    for i, name in enumerate(("one", "two", "three", "four")):
        os.utime(root / name / "run.sqlite", (1e9 + i, 1e9 + i))
    return list(listed(root).values())


def test_rows_are_chosen_by_words_state_and_task(rows: list[RunRow]) -> None:
    assert shown(rows) == ["four", "three", "two", "one"]
    assert shown(rows, text="study") == ["two", "one"]
    assert shown(rows, text="STUDY seed=1") == ["two"]
    assert shown(rows, text="optimizer=random") == ["two"]
    assert shown(rows, text="nothing like it") == []
    assert shown(rows, state="unreadable") == ["four"]
    assert shown(rows, task="reverse", state="complete") == ["one"]


def test_rows_without_a_value_come_last_in_either_order(rows: list[RunRow]) -> None:
    best = {row.run.found.place: row.run.overview.best.mean for row in rows if row.score}
    assert set(best) == {"one", "two"}
    for down in (True, False):
        order = sorted(best, key=lambda name: best[name], reverse=down)
        assert shown(rows, sort="score", down=down)[:2] == order
        assert set(shown(rows, sort="score", down=down)[2:]) == {"three", "four"}
    assert shown(rows, sort="name", down=False) == ["four", "three", "one", "two"]
    assert shown(rows, sort="candidates", down=True)[-1] == "four"


def test_an_address_that_asks_for_nonsense_gets_the_usual_list() -> None:
    assert Wish.of({"sort": "'; DROP TABLE", "order": "sideways"}) == Wish()
    assert Wish.of({"sort": "name"}).down is False
    assert Wish.of({"sort": "name", "order": "down", "q": "x" * 1000}) == Wish("x" * 200, sort="name", down=True)


def test_tags_are_what_differs_among_runs_of_a_name() -> None:
    def config(name: str = "a", seed: int = 0, **more: Any) -> dict[str, Any]:
        return {"name": name, "seed": seed, "optimizer": {"name": "cma", "sigma": 0.2}, **more}

    assert tags_of([config(), config()]) == [{}, {}]
    assert tags_of([config(), config(seed=1), config("b", seed=2)]) == [{"seed": "0"}, {"seed": "1"}, {}]
    other = config(optimizer={"name": "random", "popsize": 3})
    assert tags_of([config(), other]) == [{"optimizer": "cma"}, {"optimizer": "random"}]
    assert tags_of([config(), config(budget={"items": 5})]) == [{}, {"budget.items": "5"}]
    assert tags_of([config(execution={"device": "cpu"}), config()]) == [{}, {}]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "just now"), (-5, "just now"), (70, "70 s ago"), (600, "10 min ago"), (9000, "2 h ago"), (4e5, "5 days ago")],
)
def test_when_a_run_was_written_is_said_as_one_says_it(seconds: float, words: str) -> None:
    assert ago(seconds) == words


# ---- the page ----


def test_hostile_names_are_shown_as_text(tmp_path: Path, serve) -> None:
    place = "<img src=x onerror=alert(1)>"
    made_run(tmp_path / place, hostile=True, name=HOSTILE, answers=True, config={"seed": HOSTILE})
    made_run(tmp_path / "b", name=HOSTILE, **SMALL)
    shutil.copytree(tmp_path / "b", Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe/no text")))
    ask = serve(tmp_path)
    for path in ("/", "/?q=%3Cscript%3Ealert(1)%3C/script%3E&state=%22%3E%3Cscript%3E"):
        names = Tags(ask(path).text).names
        assert "img" not in names and names.count("script") == 3  # our own
    assert "script" not in Tags(json.loads(ask("/rows").text)["rows"]).names
    found = listed(tmp_path)
    assert len(found) == 3
    for row in found.values():
        run = ask.drawn(f"/run/{row.key}")
        assert run.status == 200 and "img" not in Tags(run.text).names
        assert html(HOSTILE, quotes=False).partition('"')[0] in run.text


@pytest.mark.parametrize(
    "path",
    [
        "/run/..",
        "/run/../../etc/passwd",
        "/run/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/run/..%2f..%2f/changes",
        "/static/../app.py",
        "/static/%2e%2e%2fapp.py",
        "/static/dashboard.js",
        "/compare?run=../../etc",
        "/run/%00",
        "/run/%ff%fe",
        "//etc/passwd",
    ],
)
def test_nothing_outside_of_the_folder_can_be_reached(tmp_path: Path, serve, path: str) -> None:
    answer = serve(tmp_path)(path)
    assert answer.status in (400, 404)
    assert "root:" not in answer.text and "import" not in answer.text


def test_a_folder_that_became_a_link_is_not_followed(tmp_path: Path, serve, monkeypatch) -> None:
    monkeypatch.setattr(run_list, "FRESH_SECONDS", 1e9)
    run, secret = made_run(tmp_path / "in" / "run", **SMALL), made_run(tmp_path / "secret", name="secret", **SMALL)
    ask = serve(tmp_path / "in")
    key = re.search(r"/run/([0-9a-f]+)", ask("/").text)[1]
    shutil.rmtree(run)
    run.symlink_to(secret)
    page = ask.drawn(f"/run/{key}")
    assert "secret" not in page.text and "leads elsewhere through a link" in page.text


def test_a_list_of_hundreds_is_cut_and_the_filter_finds_the_rest(tmp_path: Path, serve, monkeypatch) -> None:
    monkeypatch.setattr("evomerge.dashboard.app.ROWS_AT_MOST", 3)
    source = made_run(tmp_path / "0", **SMALL)
    for i in range(1, 6):
        shutil.copytree(source, tmp_path / str(i), copy_function=os.link)
    ask = serve(tmp_path)
    assert "6 of 6 runs; the first 3 are shown" in ask("/").text
    assert "1 of 6 runs</p>" in ask("/?q=5").text
