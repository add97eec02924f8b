"""In which script an answer is written, as a number, and whether it is one that nobody else wrote in.

A script is told by the letters of an answer, whatever they say; so a change of language within one script (English
instead of German) is not seen.

- Letters are the characters of Unicode's categories L*, by the first word of their name ("LATIN SMALL LETTER A"). What
  stands in fenced or inline code, and commands of LaTeX, is no script; neither are digits, signs and punctuation.
- The answer's script is that of most letters. Han, kana and hangul count twice, since each stands for a syllable or
  more. Answers with fewer than four letters, so counted, have no script: "B", "5 kg" and "x = 3" are no language.
- Japanese mixes Han, hiragana and katakana, which count together. It is Japanese if a tenth of them is kana; else it is
  Chinese, if there are at least ten Han characters; fewer, like 東京都, may be either.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Collection, Iterable

from evomerge.evaluation.task import SCRIPT
from evomerge.record import ItemScore

NO_SCRIPT = 0.0
"""The number of an answer without a script."""

FEWEST, KANA_SHARE, FEWEST_HAN = 4, 0.1, 10
"""Letters from which there is a script; the share of kana from which Han and kana are Japanese; the Han characters
from which they are Chinese without any kana."""

JAPANESE, CHINESE, EITHER = "JAPANESE", "CHINESE", "HAN"

_HAN = {"CJK", "IDEOGRAPHIC", "KANGXI"}
_KANA = {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}
_WIDTHS = {"FULLWIDTH", "HALFWIDTH"}  # the name goes on with the script
_NO_LANGUAGE = {"MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT", "BLACK-LETTER", "MICRO", "FEMININE", "MASCULINE", "MODIFIER"}
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|\\[A-Za-z]+", re.DOTALL)
_LATIN = re.compile("[A-Za-z]")


class KnownScripts:
    """The scripts in which some models, such as the parents, answered the items of a split."""

    def __init__(self) -> None:
        self._of_item: dict[tuple[str, int], set[float]] = {}
        self._of_task: dict[str, set[float]] = {}

    def note(self, scores: Iterable[ItemScore]) -> None:
        """Note the scripts of a model's answers."""
        for score in scores:
            if (script := score.metrics.get(SCRIPT)) is not None:
                self._of_item.setdefault((score.task, score.item), set()).add(script)
                self._of_task.setdefault(score.task, set()).add(script)

    def foreign(self, score: ItemScore) -> float:
        """Return whether an answer is in a foreign script, 1 or 0; NaN: nothing to compare was noted.

        Where none of the models' answers to the item has a script, their answers to other items of the task count.
        """
        script = score.metrics.get(SCRIPT)
        others = self._of_item.get((score.task, score.item))
        if script is None or others is None:
            return math.nan
        return float(is_foreign(script, others, self._of_task[score.task]))


def script_number(text: str) -> float:
    """Return the number of the script of a text, the same in every process; `NO_SCRIPT` for a text without one."""
    name = script_name(text)
    return NO_SCRIPT if name is None else number_of(name)


def number_of(script: str) -> float:
    """Return the number that stands for the name of a script."""
    return float(zlib.crc32(script.encode()))


def script_name(text: str) -> str | None:
    """Return the name of the script of a text: the first word of its letters' names in Unicode, or one of the above."""
    if "`" in text or "\\" in text:
        text = _CODE.sub(" ", text)
    if text.isascii():
        return "LATIN" if len(_LATIN.findall(text)) >= FEWEST else None
    letters: Counter[str] = Counter()
    for character, count in Counter(text).items():
        name = _script_of(character)
        if name:
            letters[name] += count
    han, kana = letters.pop(EITHER, 0), letters.pop(JAPANESE, 0)
    if "HANGUL" in letters:
        letters["HANGUL"] *= 2
    if han + kana:
        letters[_east_asian(han, kana)] = 2 * (han + kana)
    # Of equally many the first by name, so that it does not depend on the order of the letters.
    name, count = min(letters.items(), key=lambda one: (-one[1], one[0]), default=("", 0))
    return name if count >= FEWEST else None


def is_foreign(script: float, others: Collection[float], elsewhere: Collection[float] = ()) -> bool:
    """Return whether an answer's script is none in which others answered.

    An answer without a script is never foreign. A few Han characters, which may be Japanese or Chinese, are foreign to
    neither, and neither is foreign to them.

    Args:
        script: the number of the answer's script.
        others: those of the others' answers to the same item.
        elsewhere: those of their answers to other items, which count where none of `others` has a script.
    """
    if script == NO_SCRIPT:
        return False
    known = {one for one in others if one != NO_SCRIPT} or {one for one in elsewhere if one != NO_SCRIPT}
    if not known or script in known:
        return False
    han = {number_of(name) for name in (JAPANESE, CHINESE, EITHER)}
    unclear = number_of(EITHER) in known or script == number_of(EITHER)
    return not (unclear and script in han and known & han)


def _east_asian(han: int, kana: int) -> str:
    if kana >= KANA_SHARE * (han + kana):
        return JAPANESE
    return CHINESE if han >= FEWEST_HAN else EITHER


@functools.cache
def _script_of(character: str) -> str | None:
    """Return the script of a letter; None for what is none, or belongs to no language."""
    if not unicodedata.category(character).startswith("L"):
        return None
    words = unicodedata.name(character, "").split()
    first = next((word for word in words if word not in _WIDTHS), "")
    if first in _HAN:
        return EITHER
    if first in _KANA:
        return JAPANESE
    return None if first in _NO_LANGUAGE else first or None
