"""The page of a report as text: what is in it, what it escapes, and what becomes of a figure that fails."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from made_runs import big_run

from evomerge.report import figures
from evomerge.report.data import RunData
from evomerge.report.figure import Figure, Table
from evomerge.report.page import PageSection, content_policy, render_figure, render_page, sections_of

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)></script>{{7*7}}\u202egnp\x1b[2J&amp;"
SHOWN = "<script>alert(1)</script><img src=x onerror=alert(2)></script>{{7*7}}\\u202egnp\\x1b[2J&amp;"


class Parsed(HTMLParser):
    """The tags, their attributes and the texts of a page, as a browser reads it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[str, str]] = []
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append((dict(attrs).get("type") or "", ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        else:
            self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def chart(values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"$schema": "x", "data": {"values": values}, "mark": "bar", "width": "container", "height": 200}


def test_a_page_holds_all_it_needs_and_its_policy_lets_no_other_script_run(open_made) -> None:
    run = open_made()
    parsed = Parsed(render_page([run], sections_of([run], strict=True), strict=True))
    assert not [tag for tag, has in parsed.tags if has.get("src") or (tag == "link" and has.get("href"))]
    assert not re.search(r"url\(|@import", "".join(parsed.texts))
    (policy,) = [one["content"] for one in parsed.named("meta") if one.get("http-equiv")]
    assert policy == content_policy([text for kind, text in parsed.scripts if not kind])
    assert "default-src 'none'" in policy and "unsafe-eval" not in policy and policy.count("sha256-") == 2


def test_every_figure_and_section_is_in_the_contents(open_made) -> None:
    run = open_made()
    sections = sections_of([run], strict=True)
    parsed = Parsed(render_page([run], sections))
    ids = [has["id"] for _, has in parsed.tags if has.get("id")]
    assert len(ids) == len(set(ids))
    links = {has["href"] for has in parsed.named("a")}
    keys = {one.key for section in sections for one in (section, *section.figures)}
    assert {f"#{key}" for key in keys} <= links
    assert {link[1:] for link in links} <= set(ids)


@pytest.mark.parametrize(
    "figure",
    [
        Figure("one", HOSTILE, HOSTILE, note=HOSTILE),
        Figure("one", "t", "l", table=Table([HOSTILE, "n"], [[HOSTILE, 1], ["x", HOSTILE]])),
        figures.Problem("one", HOSTILE),
    ],
)
def test_hostile_words_are_text(figure: Figure) -> None:
    parsed = Parsed(render_figure(figure, strict=True))
    assert not parsed.named("script") and not parsed.named("img")
    assert SHOWN in "".join(parsed.texts)


def test_commands_in_words_stand_as_code() -> None:
    html = render_figure(Figure("one", "t", "say `evomerge <x>` and `", note="`a` or `<b>`"), strict=True)
    assert "say <code>evomerge &lt;x&gt;</code> and `" in html
    assert "<code>a</code> or <code>&lt;b&gt;</code>" in html


def test_hostile_words_in_a_chart_end_no_script_and_can_be_seen() -> None:
    figure = Figure("one", HOSTILE, "lead", chart=chart([{"model": HOSTILE, "x": float("nan")}]))
    html = render_figure(figure, strict=True)
    ((kind, text),) = Parsed(html).scripts
    spec = json.loads(text)
    assert kind == "application/json" and "<" not in text
    assert spec["data"]["values"] == [{"model": SHOWN, "x": None}]
    assert spec["description"] == f"{SHOWN}. lead" and "$schema" not in spec


def test_a_figure_that_raises_is_a_notice_and_the_others_stand(open_made, monkeypatch) -> None:
    def broken(runs: Sequence[RunData]) -> Figure:
        raise ValueError(f"no such thing: {HOSTILE}")

    monkeypatch.setattr("evomerge.report.figures.progress.draw", broken)
    monkeypatch.setitem(figures.SECTIONS, "More", ("progress",))
    run = open_made()
    page = render_page([run], [*sections_of([run]), PageSection("Own", [Figure("own", "Mine", "stands")])])
    texts = "".join(Parsed(page).texts)
    assert f"The figure “progress” could not be drawn: ValueError: no such thing: {SHOWN}" in texts
    assert "stands" in texts
    with pytest.raises(ValueError, match="no such thing"):
        sections_of([run], strict=True)


@pytest.mark.parametrize("chart_or_template", [{"chart": {"data": object()}}, {"template": "none.html"}])
def test_a_figure_that_cannot_be_shown_is_a_notice(chart_or_template: dict[str, Any]) -> None:
    figure = Figure("own", "Mine", "l", **chart_or_template)
    assert "The figure “own” could not be drawn" in render_figure(figure)
    with pytest.raises(Exception, match=r"none\.html|object"):
        render_figure(figure, strict=True)


def test_numbers_of_a_table_are_set_to_the_right_and_rounded() -> None:
    table = Table(
        ["model", "share", "n", "words"],
        [["a", 0.123456, 12000, "12 of them"], ["b", None, 7, "x"], ["c", "53.0 % [48.1, 57.9]", float("nan"), 3]],
        marked=frozenset([1]),
    )
    parsed = Parsed(render_figure(Figure("own", "Mine", "l", table=table), strict=True))
    head = [has.get("class") for has in parsed.named("th") if has["scope"] == "col"]
    assert head == [None, "right", "right", None]
    assert [has.get("class") for has in parsed.named("tr")] == [None, None, "marked", None]
    cells = [text for text in parsed.texts if text.strip()]
    assert cells[-12:] == [
        "a",
        "0.1235",
        "12,000",
        "12 of them",
        "b",
        "–",
        "7",
        "x",
        "c",
        "53.0 % [48.1, 57.9]",
        "–",
        "3",
    ]


def test_a_running_run_is_said_to_be_shown_as_it_stood(open_made, monkeypatch) -> None:
    run = open_made(choice=None)
    monkeypatch.setitem(run.status, "state", "running")  # type: ignore[arg-type]
    texts = "".join(Parsed(render_page([run], [], now=datetime(2026, 1, 2, 3, 4, tzinfo=UTC))).texts)
    assert "as it stood on 2026-01-02 03:04 UTC" in texts
    assert "Nothing has been recorded yet." in texts


@pytest.mark.parametrize(("theme", "expected"), [("auto", None), ("light", "light"), ("dark", "dark")])
def test_the_theme_is_the_readers_unless_one_is_asked_for(open_made, theme: str, expected: str | None) -> None:
    (html,) = Parsed(render_page([open_made()], [], theme=theme)).named("html")
    assert html.get("data-theme") == expected


def test_every_kind_of_run_makes_a_page(any_run) -> None:
    assert len(render_page([any_run], sections_of([any_run], strict=True), strict=True)) > 900_000


@pytest.mark.slow
def test_the_page_of_a_large_run_is_light(tmp_path) -> None:
    """1,000 candidates, 500 search items, answers of 300 words to 1,500 items; 0.9 MB are the library of charts."""
    with RunData.open(big_run(tmp_path / "run")) as run:
        page = render_page([run], sections_of([run], strict=True), strict=True)
    assert len(page.encode()) < 6_000_000
    assert len(page.encode()) > 1_000_000
