"""Foreign text is shown so that every character can be seen, and nothing raises."""

import io
import json
import re
import shlex
import sys
import unicodedata
from pathlib import Path

import pytest

from evomerge.system.text import (
    VISIBLE,
    command,
    error_text,
    html,
    json_text,
    markdown,
    markdown_code,
    storable,
    visible,
)

NASTY = "a\x1b[2J\r\x08\x00\x9b\u202eb\u200b\u2028\ud800\U000e0041é日本"


def test_every_unseen_character_is_escaped_and_nothing_else_changes() -> None:
    # Arabic signs that embrace a number are formats by category, but are drawn.
    drawn = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2}
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        unseen = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and code not in drawn
        shown = visible(character)
        if unseen:
            assert shown != character and shown.isascii() and shown.startswith("\\"), hex(code)
        else:
            assert shown == character or shown.startswith("\\"), hex(code)
    assert visible("Zürich 日本語 👍\ufe0f – naïve") == "Zürich 日本語 👍\ufe0f – naïve"
    assert visible(NASTY) == r"a\x1b[2J\r\x08\x00\x9b\u202eb\u200b\u2028\ud800\U000e0041é日本"


def test_lines_may_stay() -> None:
    assert visible("one\r\ntwo\tx\ry", lines=True) == "one\ntwo\tx\\ry"
    assert visible("one\ntwo\tx") == r"one\ntwo\tx"


def test_long_text_is_cut_and_says_by_how_much() -> None:
    assert visible("x" * 5_000_000, most=10) == "x" * 10 + "… (4,999,990 more characters)"
    assert visible("x" * 10, most=10) == "x" * 10


def test_an_error_that_cannot_be_asked_is_named() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    assert "Silent" in error_text(Silent()) and "RuntimeError" in error_text(Silent())
    assert error_text(KeyError()) == "KeyError"
    assert error_text(ValueError("x")) == "x"
    assert error_text(ValueError("x"), name=True) == "ValueError: x"
    assert len(error_text(ValueError("x" * 5_000_000))) < 25_000
    assert error_text(ValueError("\ud800")).encode() == b"\\ud800"


def test_what_is_stored_keeps_what_a_file_can_hold() -> None:
    assert storable("a\x1bb\ud83d\x00\u202e") == "a\x1bb\\ud83d\\x00\u202e"


NAMES = [
    *("a|b", "`x`", "[x](http://y)", "<script>", "&lt;", "*x*", "_x_", "# x", "1. x", "- x", "x #", "~~x~~", "$x$"),
    *("a\nb", "\\", "![x](y)", "+ x", "``` x", "---", "## x ##"),
]


@pytest.mark.parametrize("name", NAMES)
def test_markdown_shows_a_name_as_it_is(name: str) -> None:
    """A small renderer of CommonMark's inline escapes gives the name back, and no bare mark is left."""
    written = markdown(name)
    assert "\n" not in written
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", written)
    assert not re.search(r"[`*\[\]|~$<>]", bare) and not re.search(r"^\s*(#+|[+-]|\d+\.) ", written)
    back = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", written)
    back = back.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert back == visible(name)


def test_markdown_leaves_ordinary_names_alone() -> None:
    for name in ("task_arithmetic", "org/model-1.5", "best merge (17)", "0.5123", "-0.5", "#1", "日本語"):
        assert markdown(name) == name


def test_code_of_markdown_holds_backticks() -> None:
    assert markdown_code("a") == "`a`"
    assert markdown_code("a`b") == "``a`b``"
    assert markdown_code("`a|b`") == r"`` `a\|b` ``"
    assert markdown_code("") == "`  `"


def test_html_has_no_tag_of_the_name() -> None:
    assert html('<a href="x">\x1b') == "&lt;a href=&quot;x&quot;&gt;\\x1b"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "no such encoding"])
def test_json_can_be_seen_written_and_read_back(encoding: str) -> None:
    data = {"name": NASTY, "list": ["\x7f", "👍", 1.5, None], "\ud800": {"\n": "\t"}}
    written = json_text(data, indent=2, encoding=encoding)
    assert json.loads(written) == data
    if " " not in encoding:
        written.encode(encoding)
    assert visible(written, lines=True) == written


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "latin-1", "shift_jis"])
def test_a_stream_of_any_encoding_takes_any_text(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors=VISIBLE)
    stream.write(NASTY + "👍 – … ▁█")
    stream.flush()
    shown = raw.getvalue().decode(encoding)
    assert r"\ud800" in shown
    if encoding == "ascii":
        assert shown.endswith(r"\xe9\u65e5\u672c\U0001f44d - ... _#")


def test_commands_can_be_pasted() -> None:
    assert shlex.split(command("resume", Path("my runs/it's 1"), "budget.candidates=3")) == [
        "evomerge",
        "resume",
        "my runs/it's 1",
        "budget.candidates=3",
    ]
