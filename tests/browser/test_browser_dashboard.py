"""The dashboard in a real browser: it follows a search, finds and compares runs, and everybody can use it."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import HOSTILE, made_run
from one_browser import Browser
from selenium.webdriver import Keys

from evomerge.dashboard import live
from evomerge.dashboard.server import listen
from evomerge.record import Score, Split
from evomerge.store import RunDir
from evomerge.system.text import visible

Serve = Callable[[Path], str]


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Serves a folder on a free port, and returns its address."""
    begun = []

    def start(folder: Path) -> str:
        listening = listen(folder, port=0)
        thread = threading.Thread(target=listening.serve)
        thread.start()
        begun.append((listening, thread))
        while not listening.server.started:
            time.sleep(0.01)
        return listening.url

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "LEAST_SECONDS", 0.1)
        patch.setattr(live, "TIMES_AS_LONG", 0.1)
        patch.setattr("evomerge.dashboard.background.NICE", 0)  # other tests run beside
        patch.setattr("evomerge.dashboard.run_list.FRESH_SECONDS", 0.1)
        yield start
    for listening, thread in begun:
        listening.server.should_exit = True
        thread.join(timeout=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of all kinds."""
    root = tmp_path_factory.mktemp("outputs")
    for seed in range(3):
        made_run(root / "study" / str(seed), name="study", seed=seed)
    made_run(root / "random", name="random search", config={"optimizer": {"name": "random"}}, choice=None)
    made_run(root / "begun", name="begun", candidates=0, baselines=False, choice=None)
    made_run(root / "hostile", name=HOSTILE, hostile=True, error=HOSTILE)
    (root / "broken").mkdir()
    (root / "broken" / "run.sqlite").write_bytes(b"no database " * 100)
    return root


@pytest.fixture(scope="module")
def url(serve: Serve, folder: Path) -> str:
    return serve(folder)


def open_run(browser: Browser, url: str, name: str, **options: int | str) -> None:
    """Open the page of a run, and wait until it is drawn."""
    browser.open(url, **options)  # type: ignore[arg-type]
    (link,) = [one for one in browser.all("#list th a[href^='/run/']") if one.text == name]
    browser.driver.get(link.get_attribute("href"))
    drawn(browser)


def tick(browser: Browser, selector: str) -> None:
    box = browser.one(selector)
    browser.show(box)
    box.click()


def drawn(browser: Browser) -> None:
    browser.wait("document.querySelector('#live').dataset.version !== ''", seconds=60)


def add(run: RunDir, best: float) -> None:
    """Record one more candidate, better than all before."""
    first, number = run.database.record(0), run.database.count()
    assert first is not None
    scores = {Split.SEARCH: Score(best, best - 0.05, best + 0.05, 40)}
    record = replace(first, number=number, name=f"candidate {number}", fitness=10.0, scores=scores, same_as=None)
    run.database.add(record, scores={Split.SEARCH: run.database.item_scores(0, Split.SEARCH)})


def test_the_list_shows_all_runs_and_why_one_cannot_be_read(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.wait("document.querySelectorAll('#list tbody tr').length === 7")
    assert "is damaged" in browser.text() and visible(HOSTILE) in browser.text()
    assert browser.js("window.ran") == [] and browser.js("document.images.length") == 0
    assert browser.errors() == []
    assert all(one.startswith((url, "data:")) for one in browser.requests())


def test_runs_are_found_by_what_is_typed_and_stay_ticked(browser: Browser, url: str) -> None:
    browser.open(url)
    tick(browser, "#list input[aria-label^='Compare random search']")
    browser.one("input[name=q]").send_keys("study seed=1")
    browser.wait("document.querySelectorAll('#list tbody tr').length === 1")
    assert "q=study+seed%3D1" in browser.driver.current_url
    browser.wait("document.querySelector('#told').textContent.startsWith('1 of 7 runs')")
    tick(browser, "#list input")
    browser.one("input[name=q]").send_keys(Keys.CONTROL + "a", Keys.DELETE)
    browser.wait("document.querySelectorAll('#list tbody tr').length === 7")
    assert browser.js("document.querySelectorAll('#list :checked').length") == 2
    assert browser.one("#compare .strong").text == "Compare 2 runs"
    browser.driver.refresh()
    browser.one("select[name=state]").send_keys("unreadable")
    browser.wait("document.querySelectorAll('#list tbody tr').length === 1")


def test_columns_put_the_list_in_order(browser: Browser, url: str) -> None:
    browser.open(url)
    names = "[...document.querySelectorAll('#list th[scope=row] > a')].map((one) => one.textContent)"
    browser.one("a[data-sort=name]").click()
    browser.wait("document.querySelector('[aria-sort=ascending] a')?.dataset.sort === 'name'")
    found = browser.js(names)
    assert found == sorted(found, key=str.casefold)
    browser.one("a[data-sort=name]").click()
    browser.wait("document.querySelector('[aria-sort=descending] a')?.dataset.sort === 'name'")
    assert browser.js(names) == sorted(found, key=str.casefold, reverse=True)


def test_runs_that_come_and_go_are_taken_up_without_losing_the_focus(
    browser: Browser, serve: Serve, tmp_path: Path
) -> None:
    made_run(tmp_path / "a", name="first")
    browser.open(serve(tmp_path))
    tick(browser, "#list input")
    made_run(tmp_path / "b", name="second")
    browser.wait("document.querySelectorAll('#list tbody tr').length === 2")
    assert browser.js("document.activeElement.matches('#list input:checked')")
    assert browser.js("document.activeElement.getAttribute('aria-label')").startswith("Compare first")
    shutil.rmtree(tmp_path / "b")
    browser.wait("document.querySelectorAll('#list tbody tr').length === 1")


def test_several_runs_are_compared_on_one_page(browser: Browser, url: str) -> None:
    browser.open(f"{url}?q=study")
    for box in browser.all("#list input"):
        browser.show(box)
        box.click()
    browser.one("#compare .strong").click()
    browser.wait("location.pathname === '/compare'")
    drawn(browser)
    assert browser.one("h1").text == "study: 3 runs"
    assert browser.draw_all() >= 1
    assert browser.errors() == [] and browser.js("document.querySelectorAll('.figure .notice').length") == 0


def test_a_page_gains_a_point_while_its_search_runs_and_nothing_moves(
    browser: Browser, serve: Serve, tmp_path: Path
) -> None:
    path = made_run(tmp_path / "run", name="going on", choice=None, state="running", answers=True)
    with RunDir.open(path, write=True) as run:
        open_run(browser, serve(tmp_path), "going on")
        gains_a_point(browser, run)


def gains_a_point(browser: Browser, run: RunDir) -> None:
    browser.show(browser.one(".chart[data-key=progress]"))
    browser.wait("document.querySelector('.chart[data-key=progress][data-drawn]')")
    browser.driver.execute_script(
        "window.before = document.querySelector('.chart[data-key=progress]');"
        "window.stood = new Map([...document.querySelectorAll('article')].map((one) => [one.id, one]));"
        "const numbers = document.querySelector('#progress details'); numbers.open = true;"
        "numbers.scrollIntoView({block: 'center', behavior: 'instant'}); numbers.querySelector('summary').focus()"
    )
    top = browser.js("document.querySelector('#progress details').getBoundingClientRect().top")
    rows = browser.js("document.querySelectorAll('#progress tbody tr').length")
    points = browser.js("evomerge.charts.get(window.before).spec")
    add(run, 0.97)
    browser.wait("document.querySelectorAll('#progress tbody tr').length > arguments[0]", rows, seconds=60)
    browser.wait("window.before.dataset.drawn && window.before.querySelector('svg')")
    assert browser.js("evomerge.charts.get(window.before).spec") != points
    assert "17 candidates" in browser.one("#masthead").text
    assert "97.0 %" in browser.one("#progress").text
    assert browser.js("document.querySelector('.chart[data-key=progress]') === window.before"), "it is the same chart"
    assert browser.js("document.querySelector('#progress details').open")
    assert browser.js("document.activeElement === document.querySelector('#progress summary')")
    assert browser.js("[...stood].filter(([id]) => document.getElementById(id)).length") > 3
    assert browser.js("[...stood].every(([id, one]) => !document.getElementById(id) || one.isConnected)")
    moved = browser.js("document.querySelector('#progress details').getBoundingClientRect().top") - top
    assert abs(moved) < 60, "the figure stays under the eyes, but for a line more or less of words above it"
    browser.wait("document.querySelector('#told').textContent.includes('17 candidates')")
    assert [one for one in browser.errors() if '"WARN"' not in one] == []


@pytest.mark.slow
def test_a_page_can_be_paused_and_says_when_its_run_is_gone(browser: Browser, serve: Serve, tmp_path: Path) -> None:
    path = made_run(tmp_path / "run", name="going on", choice=None, state="running")
    with RunDir.open(path, write=True) as run:
        open_run(browser, serve(tmp_path), "going on")
        browser.wait("document.querySelector('#live').textContent.includes('Following the search')")
        button = browser.one("#live button")
        button.click()
        assert "Paused" in browser.one("#live").text and button.text == "Go on"
        add(run, 0.97)
        time.sleep(2.5)
        assert "16 candidates" in browser.one("#masthead").text
        button.click()
        browser.wait("document.querySelector('#masthead').textContent.includes('17 candidates')", seconds=60)
    browser.wait("document.querySelector('#live').textContent.includes('Not running')", seconds=60)
    shutil.rmtree(path)
    button.click()
    button.click()  # asks at once
    browser.wait("document.querySelector('#live').textContent.includes('not there any more')", seconds=60)
    assert "17 candidates" in browser.one("#masthead").text
    assert "not there any more" in browser.js("document.querySelector('#told').textContent")


@pytest.mark.parametrize(
    ("width", "theme"),
    [
        (390, "light"),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in ((390, "dark"), (1280, "light"), (1280, "dark"))),
    ],
)
def test_the_list_fits_and_a_checker_of_accessibility_finds_nothing_serious(
    browser: Browser, url: str, width: int, theme: str
) -> None:
    browser.open(url, width=width, theme=theme)
    browser.wait("document.querySelectorAll('#list tbody tr').length === 7")
    assert browser.overflow() == 0
    assert browser.axe() == []


@pytest.mark.slow
def test_a_page_about_a_run_fits_and_nothing_serious_is_found_in_it(browser: Browser, url: str) -> None:
    open_run(browser, url, visible(HOSTILE), width=390)
    browser.draw_all()
    assert browser.overflow() == 0
    assert browser.js("window.ran") == [] and browser.js("document.images.length") == 0
    assert browser.axe(charts=False) == []


def test_the_list_is_used_with_the_keyboard_alone(browser: Browser, url: str) -> None:
    browser.open(f"{url}?q=study")
    browser.press(Keys.TAB)
    assert browser.js("document.activeElement.matches('.skip')")
    browser.press(Keys.ENTER)
    ticked = 0
    for _ in range(30):
        browser.press(Keys.TAB)
        if browser.js("document.activeElement.matches('#list input')"):
            browser.press(Keys.SPACE)
            ticked += 1
        if browser.js("document.activeElement.matches('#compare .strong')"):
            break
    assert ticked == 3
    browser.press(Keys.ENTER)
    browser.wait("location.pathname === '/compare'")


@pytest.mark.slow
def test_nothing_is_asked_for_while_nobody_looks(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.driver.execute_script("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    time.sleep(2.5)
    asked = [one for one in browser.requests() if re.search(r"/rows", one)]
    time.sleep(2.5)
    assert [one for one in browser.requests() if re.search(r"/rows", one)] == asked
