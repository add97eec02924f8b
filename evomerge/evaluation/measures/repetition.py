"""Answers that repeat themselves, the best known failure of a merge: a loop at the end, or hardly a new phrase at all.

An answer is repetitive (1, else 0) by either of two rules, on its text with each run of white space as one space:

- **Loop**: it ends in a block that stands there at least three times in a row; the last copy may be cut. Holtzman et
  al. 2020 (The Curious Case of Neural Text Degeneration, arXiv 1904.09751, section 4) call that repetition. So that
  "yes yes yes", 1000000 and closing brackets are none, what repeats the first copy must be at least 24 columns wide
  (a character of an East Asian script has two), and the loop a quarter of the answer or 200 columns.
- **Duplicates**: more than half of its n-grams of four words occurred before in it, and it has at least 32: seq-rep-4
  of Welleck et al. 2020 (Neural Text Generation with Unlikelihood Training, arXiv 1908.04319). It finds loops with a
  number that counts up, or that end before the answer does. A character of a script without spaces is a word.

A list that counts on for ever (1, 2, 3, …) repeats nothing; it is cut (`cut_answers`). White space at the end is
ignored.
"""

from __future__ import annotations

import re
import unicodedata

from evomerge.evaluation.measures.base import Answered, Measure

COPIES, REPEATED, SHARE, LONG = 3, 24, 0.25, 200
"""Of a loop: the fewest copies; columns behind the first copy; its share of the answer, or its columns instead."""

N, FEWEST, DUPLICATES = 4, 32, 0.5
"""Of n-grams: their words; how many there must be; the share of duplicates beyond which an answer is repetitive."""

_WORDS = re.compile(
    # Han with its marks, kana, Thai, Lao, Myanmar, Khmer, wide forms: written without spaces.
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
    "|[^ \u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
    "\U00020000-\U0003ffff]+"
)


def repetitive_answers(item: Answered) -> dict[str, float]:
    """Return whether the answer repeats itself."""
    text = " ".join(item.text.split())
    return {"repetitive_answers": float(ends_in_loop(text) or duplicate_share(text) > DUPLICATES)}


def ends_in_loop(text: str) -> bool:
    """Return whether a text ends in a loop; white space counts as it is."""
    n, probe = len(text), REPEATED // 2  # a character has at most two columns, so a loop repeats at least these
    if n <= probe:
        return False
    end, tail = n, text[-probe:]
    # A loop whose block has p characters has its last `probe` characters p earlier, too.
    while (start := text.rfind(tail, 0, end - 1)) >= 0:
        end = start + probe
        p = n - end
        length = _period_holds(text, p)
        gap = text[n - p] == " "  # behind the last copy, where the text ends
        if length + gap < COPIES * p or _columns(text[n - length + p :]) < REPEATED:
            continue
        if length >= SHARE * n or _columns(text[-length:]) >= LONG:
            return True
    return False


def duplicate_share(text: str) -> float:
    """Return the share of a text's n-grams that occurred before in it; 0 for a text of too few."""
    words = text.split(" ") if text.isascii() else _WORDS.findall(text)
    total = len(words) - N + 1
    if total < FEWEST:
        return 0.0
    return 1.0 - len(set(zip(*(words[i:] for i in range(N)), strict=False))) / total


def _period_holds(text: str, p: int) -> int:
    """Return the length of the longest end of a text in which every character is the one `p` places before it."""
    n = len(text)
    holds, fails = p, n + 1  # an end of `holds` characters has the period, one of `fails` has not
    while fails - holds > 1:
        middle = (holds + fails) // 2
        if text.endswith(text[n - middle : n - p]):
            holds = middle
        else:
            fails = middle
    return holds


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    return len(text) + sum(unicodedata.east_asian_width(character) in "WF" for character in text)


REPETITIVE_ANSWERS = Measure("repetitive_answers", "minimize", ("generate_until",), repetitive_answers)
