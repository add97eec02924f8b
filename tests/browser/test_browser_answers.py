"""Answers side by side in a real browser: filters, more items, the keyboard, hostile words, a phone's width."""

from pathlib import Path

import pytest
from made_runs import TWO_OBJECTIVES
from one_browser import Browser
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

ITEMS, COUNT = "evomerge-answers .item", "evomerge-answers .count"


@pytest.fixture(scope="module")
def page(make_report) -> Path:
    return make_report(answers=True, specs=TWO_OBJECTIVES, choice="front")


def chip(browser: Browser, name: str):
    """Return the choice of a kind of items that begins with a name."""
    labels = browser.all("evomerge-answers fieldset label")
    return next(label for label in labels if label.text.startswith(name))


def kinds(browser: Browser) -> list[str]:
    return [one.text for one in browser.all(f"{ITEMS} .kind")]


def count(browser: Browser) -> str:
    return browser.one(COUNT).text


def test_filters_show_what_was_asked_for(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert count(browser) == "4 of 80 items" and len(kinds(browser)) == 4
    order = ["lost", "gained", "wrong", "right"]
    assert kinds(browser) == sorted(kinds(browser), key=order.index)
    for name in ("gained", "both right"):
        label = chip(browser, name)
        n = int(label.text.split()[-1])
        browser.show(label)
        label.click()
        assert count(browser).endswith(f"of {n} items") and set(kinds(browser)) == {name.split()[-1]}
    chip(browser, "all").click()
    selects = browser.all("evomerge-answers select")
    named = {one.find_element(By.XPATH, "..").text.split()[0]: Select(one) for one in selects}
    named["task"].select_by_visible_text("reverse")
    assert count(browser) == "4 of 40 items"
    named["beside"].select_by_visible_text("all")
    sides = browser.all(ITEMS)[0].find_elements(By.CSS_SELECTOR, ".side")
    assert len(sides) > 3
    search = browser.one("evomerge-answers input[type=search]")
    search.send_keys("question 7 of")
    browser.wait_for(lambda: count(browser) == "1 of 1 items")
    search.send_keys(" no such words")
    browser.wait_for(lambda: count(browser) == "No such items")
    assert browser.errors() == [] and browser.overflow() == 0


def test_more_items_come_when_asked_for_and_the_keyboard_goes_on_there(browser: Browser, page: Path) -> None:
    browser.open(page)
    button = browser.one("evomerge-answers .more button")
    assert button.text == "Show 12 more"
    button.send_keys(Keys.ENTER)
    assert len(kinds(browser)) == 16
    focused = browser.driver.switch_to.active_element
    assert focused == browser.all(ITEMS)[4]
    radio = browser.all("evomerge-answers fieldset input")[0]
    radio.send_keys(Keys.ARROW_RIGHT)
    assert browser.driver.switch_to.active_element.get_attribute("value") == "lost"
    assert set(kinds(browser)) <= {"lost"}


def test_the_first_items_are_there_without_scripts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    body = text[text.index("<evomerge-answers") : text.index("</evomerge-answers>")]
    assert body.count('<li class="item') == 4 and "The answer is" in body[body.index("<ol") :]


def test_it_fits_a_phone_and_shows_hostile_words_as_text(browser: Browser, make_report) -> None:
    browser.open(make_report(hostile=True, answers=True), width=390, theme="dark")
    assert browser.overflow() == 0 and browser.js("window.ran") == []
    first = browser.all(ITEMS)[0].text
    assert "<script>alert" in first and "\\u202e" in first and "\u202e" not in first
    for select in browser.all("evomerge-answers select"):
        assert select.size["width"] <= 360


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_checker_of_accessibility_finds_nothing_serious(browser: Browser, page: Path, theme: str) -> None:
    browser.open(page, theme=theme)
    assert browser.axe(charts=False) == []
