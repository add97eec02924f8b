"""The page of a report in a real browser: it stands alone, its charts answer, and everybody can use it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_runs import HOSTILE
from one_browser import Browser
from selenium.webdriver import Keys

from evomerge.report.figure import Figure, Table
from evomerge.report.page import PageSection, render_page
from evomerge.system.text import visible

FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def plain(make_report: Callable[..., Path]) -> Path:
    return make_report(answers=True)


@pytest.fixture(scope="module")
def hostile(make_report: Callable[..., Path]) -> Path:
    return make_report(hostile=True, answers=True, error=HOSTILE)


def bars(n: int = 5, **more: Any) -> dict[str, Any]:
    """A chart of n bars, each of which says what it is."""
    return {
        "data": {"values": [{"who": f"model {i}", "share": i / n} for i in range(n)]},
        "mark": "bar",
        "width": "container",
        "height": 200,
        "encoding": {
            "x": {"field": "who", "type": "nominal"},
            "y": {"field": "share", "type": "quantitative"},
            "tooltip": [
                {"field": "who", "type": "nominal"},
                {"field": "share", "type": "quantitative", "format": ".1%"},
            ],
        },
        **more,
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of known figures: twelve charts of five bars, and a table that is wider than a phone."""
    figures = [Figure(f"bars-{i}", f"Bars {i}", "Five bars.", chart=bars()) for i in range(12)]
    wide = Table([f"column {i}" for i in range(30)], [[f"a word {i}" for i in range(30)]] * 3)
    figures.append(Figure("wide", "A wide table", "It scrolls in its frame.", table=wide))
    path = tmp_path_factory.mktemp("made") / "page.html"
    path.write_text(render_page([], [PageSection("Charts", figures)], strict=True), encoding="utf-8")
    return path


def test_the_page_opens_from_the_disk_complains_of_nothing_and_asks_for_nothing_else(
    browser: Browser, plain: Path
) -> None:
    browser.open(plain)
    assert browser.draw_all() >= 1
    assert browser.errors() == []
    assert {one for one in browser.requests() if not one.startswith("data:")} == {plain.as_uri()}
    assert browser.js("window.ran") == []


def test_every_chart_is_drawn_with_marks_and_a_description(browser: Browser, plain: Path) -> None:
    browser.open(plain)
    n = browser.draw_all()
    assert browser.js("document.querySelectorAll('.chart > svg, .chart > div > svg').length") == n
    assert browser.js("document.querySelectorAll('.notice').length") == 0
    empty = browser.js(
        "[...document.querySelectorAll('.chart')].filter((one) => !one.querySelector('.role-mark > *'))"
        ".map((one) => one.dataset.key)"
    )
    assert empty == []
    described = browser.js("document.querySelectorAll('.chart [role=graphics-document][aria-label]').length")
    assert described + browser.js("document.querySelectorAll('.chart[role=graphics-document][aria-label]').length") == n


def test_charts_are_drawn_when_they_come_near(browser: Browser, made: Path) -> None:
    browser.open(made)
    browser.wait("document.querySelector('[data-key=bars-0][data-drawn]')")
    assert not browser.js("document.querySelector('[data-key=bars-11]').dataset.drawn")
    browser.show(browser.one(".chart[data-key=bars-11]"))
    browser.wait("document.querySelector('[data-key=bars-11][data-drawn]')")


def test_a_mark_says_what_it_is_under_the_pointer(browser: Browser, made: Path) -> None:
    browser.open(made)
    browser.wait("document.querySelector('[data-key=bars-0] .mark-rect path')")
    browser.hover(browser.all("[data-key=bars-0] .mark-rect path")[3])
    browser.wait("!document.querySelector('#tip').hidden")
    assert browser.one("#tip").text.split("\n") == ["who", "model 3", "share", "60.0%"]
    browser.hover(browser.one("h1"))
    browser.wait("document.querySelector('#tip').hidden")


def test_a_line_says_what_is_nearest_to_the_pointer(browser: Browser, tmp_path: Path) -> None:
    chart = bars(9, mark={"type": "line", "strokeWidth": 12}, height=160)
    path = tmp_path / "line.html"
    path.write_text(render_page([], [PageSection("Charts", [Figure("line", "Line", "One.", chart=chart)])]))
    browser.open(path)
    browser.wait("document.querySelector('[data-key=line] .mark-line path')")
    browser.hover(browser.one("[data-key=line] .mark-line path"))  # its middle
    browser.wait("!document.querySelector('#tip').hidden")
    assert "model 4" in browser.one("#tip").text


def test_marks_can_be_read_with_the_keyboard_alone(browser: Browser, made: Path) -> None:
    browser.open(made)
    browser.wait("document.querySelector('[data-key=bars-0] .mark-rect path')")
    browser.press(Keys.TAB)
    while browser.js("document.activeElement.dataset.key") != "bars-0":
        browser.press(Keys.TAB)
    assert "model 0" in browser.one("#tip").text
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert "model 2" in browser.one("#tip").text
    assert "model 2" in browser.js("document.querySelector('#told').textContent")
    browser.press(Keys.END)
    assert "model 4" in browser.one("#tip").text
    browser.press(Keys.ARROW_DOWN, Keys.HOME)  # by height: the middle of the lowest bar is lowest
    browser.press(Keys.ESCAPE)
    assert browser.js("document.querySelector('#tip').hidden")


@pytest.mark.parametrize("system", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_the_theme_follows_the_system_until_one_is_chosen_which_is_remembered(
    browser: Browser, made: Path, system: str
) -> None:
    other = "dark" if system == "light" else "light"
    browser.open(made, theme=system)
    browser.wait(f"document.querySelector('[data-key=bars-0]').dataset.drawn === '{system}'")
    ground = browser.js("getComputedStyle(document.body).backgroundColor")
    fill = browser.js("document.querySelector('[data-key=bars-0] .mark-rect path').getAttribute('fill')")
    browser.one(f".themes input[value={other}]").click()
    browser.wait(f"document.querySelector('[data-key=bars-0]').dataset.drawn === '{other}'")
    assert browser.js("getComputedStyle(document.body).backgroundColor") != ground
    assert browser.js("document.querySelector('[data-key=bars-0] .mark-rect path').getAttribute('fill')") != fill
    browser.driver.refresh()
    browser.wait(f"document.querySelector('[data-key=bars-0]').dataset.drawn === '{other}'")
    browser.one(".themes input[value=auto]").click()
    browser.wait(f"document.querySelector('[data-key=bars-0]').dataset.drawn === '{system}'")
    browser.system_theme(other)
    browser.wait(f"document.querySelector('[data-key=bars-0]').dataset.drawn === '{other}'")


@pytest.mark.parametrize(
    ("page", "width"),
    [
        ("plain", 390),
        ("hostile", 390),
        *(
            pytest.param(page, width, marks=pytest.mark.slow)
            for page in ("made", "plain", "hostile")
            for width in (320, 390, 768, 1280)
            if width != 390 or page == "made"
        ),
    ],
)
def test_the_page_never_scrolls_sideways(
    browser: Browser, page: str, width: int, request: pytest.FixtureRequest
) -> None:
    browser.open(request.getfixturevalue(page), width=width)
    browser.draw_all()
    browser.driver.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    assert browser.overflow() == 0


def test_charts_follow_the_width(browser: Browser, made: Path) -> None:
    browser.open(made, width=1280)
    wide = browser.wait("document.querySelector('[data-key=bars-0] svg')?.clientWidth")
    browser.resize(390)
    browser.wait("document.querySelector('[data-key=bars-0] svg').clientWidth <= 390")
    assert wide > 800
    browser.resize(1280)
    browser.wait("document.querySelector('[data-key=bars-0] svg').clientWidth === arguments[0]", wide)


@pytest.mark.parametrize("page", ["made", pytest.param("plain", marks=pytest.mark.slow)])
def test_the_keyboard_reaches_everything(browser: Browser, page: str, request: pytest.FixtureRequest) -> None:
    browser.open(request.getfixturevalue(page))
    browser.draw_all()
    browser.driver.execute_script(
        "for (const one of document.querySelectorAll('details')) one.open = true; scrollTo(0, 0)"
    )
    n = browser.js(
        "(() => { const seen = (e) => e.checkVisibility() && !e.disabled;"
        f"const all = [...document.querySelectorAll({FOCUSABLE!r})].filter(seen);"
        "const groups = new Set(all.filter((e) => e.type === 'radio').map((e) => e.name));"
        "return all.filter((e) => e.type !== 'radio').length + groups.size; })()"
    )
    browser.driver.execute_script("document.body.focus(); window.reached = new Set()")
    for _ in range(n):
        browser.press(Keys.TAB)
        browser.driver.execute_script("window.reached.add(document.activeElement)")
        assert browser.js("document.activeElement.matches(':focus-visible')")
    assert browser.js("window.reached.size") == n


def test_hostile_names_are_text_and_nothing_of_them_runs(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    browser.draw_all()
    browser.driver.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    assert visible(HOSTILE) in browser.text()
    assert browser.js("window.ran") == []
    assert browser.js("document.images.length") == 0
    assert browser.js("[...document.scripts].filter((s) => s.type !== 'application/json').length") == 2
    assert browser.errors() == []
    assert {one for one in browser.requests() if not one.startswith("data:")} == {hostile.as_uri()}


def test_hostile_words_in_tooltips_are_text(browser: Browser, tmp_path: Path) -> None:
    chart = bars()
    chart["data"]["values"][0]["who"] = HOSTILE
    path = tmp_path / "hostile.html"
    path.write_text(render_page([], [PageSection(HOSTILE, [Figure("bars", HOSTILE, HOSTILE, chart=chart)])]))
    browser.open(path)
    browser.wait("document.querySelector('.mark-rect path')")
    browser.one(".chart").send_keys(Keys.HOME)
    assert visible(HOSTILE) in browser.one("#tip").text
    assert browser.js("window.ran") == [] and browser.js("document.images.length") == 0


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_a_checker_of_accessibility_finds_nothing_serious(browser: Browser, plain: Path, theme: str) -> None:
    browser.open(plain, theme=theme)
    browser.draw_all()
    browser.driver.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    assert browser.axe(charts=False) == []


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", ["plain", "hostile", "made"])
def test_it_finds_nothing_in_charts_either(
    browser: Browser, page: str, width: int, theme: str, request: pytest.FixtureRequest
) -> None:
    browser.open(request.getfixturevalue(page), theme=theme, width=width)
    browser.draw_all()
    browser.driver.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    assert browser.axe() == []


@pytest.mark.slow
def test_paper_gets_all_charts(browser: Browser, made: Path) -> None:
    browser.open(made)
    browser.driver.execute_cdp_cmd("Page.printToPDF", {})
    browser.wait("[...document.querySelectorAll('.chart')].every((one) => one.dataset.drawn)")


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_chart_is_saved_as_a_picture(browser: Browser, made: Path, kind: str) -> None:
    browser.open(made)
    button = browser.one(f"button[data-save={kind}][data-key=bars-2]")
    browser.show(button)
    button.click()
    path = browser.downloads / f"bars-2.{kind}"
    browser.wait_for(lambda: path.is_file() and path.stat().st_size > 1000)
    assert path.read_bytes().startswith(b"<svg" if kind == "svg" else b"\x89PNG")
    assert browser.errors() == []
