"""How an answer is judged: its last number and the language it is written in."""

from __future__ import annotations

import re

_LATIN = re.compile(r"[A-Za-z]")
_JAPANESE = re.compile(r"[ぁ-んァ-ヴ一-龥]")
_NUMBER = re.compile(r"\d+")


def last_number(text: str) -> str | None:
    """Return the last number in a text, or None."""
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else None


def is_japanese(text: str) -> bool:
    """Return whether a text has kana or kanji and no Latin letter."""
    return bool(_JAPANESE.search(text)) and not _LATIN.search(text)


def is_english(text: str) -> bool:
    """Return whether a text has Latin letters and neither kana nor kanji."""
    return bool(_LATIN.search(text)) and not _JAPANESE.search(text)


def judge_japanese(text: str, answer: str) -> dict[str, float]:
    """Return the three measures of a Japanese word problem; ``acc`` is the right number, said in Japanese."""
    right, japanese = last_number(text) == answer, is_japanese(text)
    return {"acc": float(right and japanese), "right_number": float(right), "japanese": float(japanese)}


def judge_english(text: str, answer: str) -> dict[str, float]:
    """Return the measures of an English word problem."""
    right = last_number(text) == answer
    return {"acc": float(right and is_english(text)), "right_number": float(right)}


def judge_exact(text: str, answer: str) -> dict[str, float]:
    """Return whether an answer is the expected one, letter by letter."""
    return {"acc": float(text.strip() == answer)}
