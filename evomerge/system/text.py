r"""Foreign text, shown: names, errors and answers that anybody wrote, on a terminal, in Markdown, HTML and JSON.

A name or an error may hold anything: escape sequences that clear a screen, marks that turn the reading direction round,
half a surrogate pair that no file can hold, five megabytes. What is shown here has no character that cannot be seen: it
stands as its escape, `\x1b`. Nothing in this module raises because of the text.
"""

from __future__ import annotations

import codecs
import html as _html
import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evomerge.system.secrets import hide

ERROR_LENGTH = 2_000
"""Most characters of an error that are shown."""

STORED_LENGTH = 20_000
"""Most characters of an error that are stored."""

VISIBLE = "evomerge.visible"
"""A name for `errors=` of streams and codecs: what the encoding lacks is replaced so that it can still be read."""

# Controls, halves of surrogate pairs, formats (zero width, reading direction, tags), separators of lines and
# paragraphs, fillers and selectors that are drawn as nothing. The selectors for emoji, U+FE0E and U+FE0F, may stay.
_UNSEEN = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\udfff\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_ANY_UNSEEN = re.compile(f"[{_UNSEEN}]")
_UNSEEN_BUT_LINES = re.compile(f"(?![\n\t])[{_UNSEEN}]")
_SURROGATES = re.compile("[\ud800-\udfff\x00]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}

# Our own marks, which an output without them can spell.
_SPELLED = {
    "–": "-", "—": "-", "…": "...", "±": "+/-", "∞": "inf", "×": "x", "≤": "<=", "≥": ">=", "→": "->",
    "“": '"', "”": '"', "‘": "'", "’": "'", "█": "#", "▇": "#", "▆": "+", "▅": "+", "▄": "=", "▃": "=", "▂": "-",
    "▁": "_", "━": "-", "─": "-", "│": "|", "•": "*",
}  # fmt: skip


def visible(text: object, *, most: int | None = None, lines: bool = False) -> str:
    r"""Return text in which every character can be seen, and no secret that the configuration refers to.

    Args:
        text: what is shown; an object that is no text is shown as `str` gives it.
        most: the most characters of it; the rest is counted: "… (12 more characters)". None: all.
        lines: whether it may have lines and tabs of its own; if not, they are shown as `\n` and `\t`.
    """
    shown = cut(hide(_as_text(text)), most)
    # Most texts need nothing, which Python knows of ASCII much sooner than an expression finds it.
    if shown.isascii() and (shown.replace("\n", "").replace("\t", "") if lines else shown).isprintable():
        return shown
    if lines:
        return _UNSEEN_BUT_LINES.sub(_escape, shown.replace("\r\n", "\n"))
    return _ANY_UNSEEN.sub(_escape, shown)


def command(*words: object) -> str:
    """Return a command of evomerge that can be pasted into a shell: "evomerge resume 'my runs/1'"."""
    return shlex.join(["evomerge", *map(str, words)])


def cut(text: str, most: int | None) -> str:
    """Return at most so many characters of a text, with the number of those that are left out; None: all."""
    if most is None or len(text) <= most:
        return text
    return f"{text[:most]}… ({len(text) - most:,} more characters)"


def error_text(error: BaseException, *, most: int | None = STORED_LENGTH, name: bool = False) -> str:
    """Return what an error says, cut at a length; its kind where it says nothing or cannot be asked.

    Args:
        error: the error, which may be of anybody's class.
        most: the most characters of it.
        name: whether the kind of the error comes first in any case: "ValueError: …".
    """
    kind, said = type(error).__name__, _as_text(error)
    return storable(f"{kind}: {said}" if name and said else said or kind, most=most)


def storable(text: str, *, most: int | None = STORED_LENGTH) -> str:
    """Return text that every file and database can hold, cut at a length; it can be shown only by `visible`.

    Secrets that the configuration refers to stand as their references.
    """
    return _SURROGATES.sub(_escape, cut(hide(text), most))


def markdown(text: object, *, most: int | None = None) -> str:
    """Return text for one line of Markdown: a cell, a heading, a part of a sentence. It means only itself there."""
    escaped = re.sub(r"[\\`*\[\]|~$]", r"\\\g<0>", html(text, most=most, quotes=False))
    escaped = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", escaped)  # inside of words it is no emphasis
    escaped = re.sub(r"^(\s*)(#{1,6}|[+-]|=+|-+)(?=\s|$)", r"\1\\\2", escaped)  # a heading, an entry of a list, a rule
    escaped = re.sub(r"^(\s*\d+)([.)])(?=\s|$)", r"\1\\\2", escaped)
    return re.sub(r"#(?=\s*$)", r"\#", escaped)


def markdown_code(text: object, *, most: int | None = None) -> str:
    """Return text as a code span of Markdown, which may stand in a cell of a table."""
    shown = visible(text, most=most).replace("|", r"\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    space = " " if not shown.strip() or shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def html(text: object, *, most: int | None = None, quotes: bool = True) -> str:
    """Return text for HTML, XML or SVG; with `quotes` also as the value of an attribute."""
    return _html.escape(visible(text, most=most), quote=quotes)


def json_text(data: Any, *, indent: int | None = None, encoding: str = "utf-8") -> str:
    """Return data as JSON that can be seen, written in an encoding, and read back to the same data.

    Numbers that are not finite are null, since JSON has none.

    Raises:
        TypeError: if it is no JSON data.
    """
    try:
        shown = json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        data = _finite(data)
        shown = json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        # Such characters stand only inside of strings, so their escapes mean the same.
        shown = _UNSEEN_BUT_LINES.sub(lambda found: json.dumps(found[0])[1:-1], shown)
        shown.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return json.dumps(data, indent=indent)
    return shown


def _finite(data: Any) -> Any:
    """Return data in which numbers that are not finite are None."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _as_text(text: object) -> str:
    try:
        return str(text)
    except Exception as error:  # anybody's __str__
        return f"<{type(text).__name__}, which cannot be shown ({type(error).__name__})>"


def _escape(found: re.Match[str]) -> str:
    return _escaped(found[0])


def _escaped(character: str) -> str:
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_SPELLED.get(one) or _escaped(one) for one in lacking), error.end


codecs.register_error(VISIBLE, _replace)


def duration(seconds: float) -> str:
    """Return "2 h 05 min", "7 min", "40 s", "4.2 s" or "0.12 s"."""
    minutes = round(seconds / 60.0)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    if seconds >= 60.0:
        return f"{minutes} min"
    return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s" if seconds >= 1.0 else f"{seconds:.2g} s"


def value_word(value: Any) -> str:
    """Return a number, a flag or a word as one writes it in YAML."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def with_and(words: Sequence[str]) -> str:
    """Return all of some words as a sentence lists them, one at least: "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def condition(when: Mapping[str, Iterable[Any]]) -> str:
    """Return in words that each of some names has one of its values: "sparsify is random"; empty: no names."""
    return " and ".join(f"{name} is {' or '.join(map(value_word, values))}" for name, values in when.items())
