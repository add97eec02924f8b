"""YAML is read so that names stay names, and written so that every reader reads them back."""

import pytest
import yaml

from evomerge.system.text import visible
from evomerge.system.yaml_text import Inline, YamlError, read_yaml, write_yaml

NAMES = [
    *("no", "on", "y", "True", "1", "1e3", "1_000", "0x10", "0o17", "010", "1:30", "2024-01-01", "null", "~", "", ".5"),
    *(
        "+1",
        ".inf",
        "1.",
        "<<",
        "=",
        "!x",
        "&a",
        "*a",
        "%x",
        "@x",
        "`x`",
        "[",
        "{",
        " a",
        "a ",
        "a: b",
        "#x",
        "- x",
        "-",
    ),
    *("?", "'", '"', "\n", "x\n", "\ud800", "\x1b", "\u202e", "\ufeff", "日本", "👍", "...", "---", "1e-05", "-.INF"),
]
LAUGHS = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9)
)
"""Ten values, ten times each, and so on: 10 billion values in 500 bytes."""


def test_what_is_written_is_read_back_by_every_reader() -> None:
    data = {name: [name, {"inner": name}] for name in NAMES}
    for text in (write_yaml(data), write_yaml([data, 1e300, 1e-5, -1, True, None])):
        expected = data if text.startswith(("'no'", "no")) else [data, 1e300, 1e-5, -1, True, None]
        assert read_yaml(text) == read_yaml(text, lenient=True) == yaml.safe_load(text) == expected


def test_what_is_written_can_be_seen() -> None:
    text = write_yaml({"\u202eb": ["a\x1b", "x\u200b\r\n" * 60, "é日本👍", "\u2028", "\U000e0041", "\ud800"]})
    assert visible(text, lines=True) == text and "é日本👍" in text
    assert yaml.safe_load(text) == read_yaml(text)
    assert read_yaml(text)["\u202eb"][:2] == ["a\x1b", "x\u200b\r\n" * 60]


def test_keys_are_text_as_written() -> None:
    for name in ("no", "1", "1e3", "2024-01-01", "null", "~", "0x10", "1_000", "TRUE", "1.50", "a b", "日本"):
        assert read_yaml(f"{name}: 1") == {name: 1}


def test_values_are_those_of_the_core_schema() -> None:
    text = (
        "[no, yes, true, False, 1_000, 0x1F, 010, 1e3, .5, -.inf, 1:30, 2024-01-01, ~, Null, '1', !!str 1, !!float 1]"
    )
    infinity = float("-inf")
    numbers = [31, 10, 1000.0, 0.5, infinity, "1:30", "2024-01-01", None, None, "1", "1", 1.0]
    assert read_yaml(text) == ["no", "yes", True, False, "1_000", *numbers]
    assert read_yaml("[no, On, 1_000, 'no']", lenient=True) == [False, True, 1000, "no"]


def test_anchors_and_merges_are_read() -> None:
    text = "a: &a {p: 1, q: 2}\nb: {<<: *a, q: 3}\nc: {<<: [*a, {p: 5, r: 9}], s: 0}"
    assert read_yaml(text)["b"] == {"p": 1, "q": 3}
    assert read_yaml(text)["c"] == {"p": 1, "q": 2, "r": 9, "s": 0}


def test_lists_may_be_written_on_one_line() -> None:
    assert write_yaml({"layers": Inline([0, 4])}) == "layers: [0, 4]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:\n  b: : x", "line 2, column 6: .*`b: : x`"),
        ("a:\n\tb: 1", "line 2.*indent with spaces"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands here again, after line 1"),
        ("x: !!python/object/apply:os.system ['true']", r"line 1, column 4: the tag !!python/object/apply:os\.system"),
        ("x: !mine 1", "!mine"),
        ("!<tag:yaml.org,2002:set> {a}", "!!set"),
        ("a: [1", "line 1"),
        ("&a [*a]", "refers to itself"),
        ("a: *b", "alias 'b'"),
        ("a: 1\n---\na: 2", "second document"),
        (b"a: \xff", "not UTF-8.*0xff at 3.*save it as UTF-8"),
        ("a: \x00", r"\\x00"),
        ("{[a]: 1}", "a key must be a word"),
        ("[" * 5000, "too deeply"),
        ("a: " + "1" * 5000, "5,000 digits"),
        ("!!int x", "'x' is no int"),
        ("a: &x 1\n<<: *x", "takes a mapping"),
        (LAUGHS, "unfold"),
    ],
)
def test_what_is_no_plain_yaml_is_said_with_its_place(text: str | bytes, said: str) -> None:
    with pytest.raises(YamlError, match=said):
        read_yaml(text)


def test_a_byte_order_mark_and_an_empty_text_are_no_mistakes() -> None:
    assert read_yaml(b"\xef\xbb\xbfa: 1") == {"a": 1}
    assert read_yaml("") is None and read_yaml("# nothing") is None
