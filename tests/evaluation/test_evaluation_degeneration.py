"""Known answers of the measures that say how answers degenerate."""

import json
import re
from pathlib import Path

import pytest

from evomerge.evaluation.measures.base import Answered
from evomerge.evaluation.measures.ending import cut_answers, cut_prompts, empty_answers
from evomerge.evaluation.measures.repetition import duplicate_share, ends_in_loop, repetitive_answers
from evomerge.evaluation.measures.script import answer_script
from evomerge.evaluation.scripts import NO_SCRIPT, KnownScripts, is_foreign, number_of, script_name
from evomerge.evaluation.task import SCRIPT
from evomerge.record import ItemScore

SENTENCE = "The cat sat on the mat. "
REASONING = (
    "Natalia sold 48/2 = 24 clips in May. Natalia sold 48+24 = 72 clips altogether in April and May. So she earned "
    "72 * 2 = 144 dollars, and after paying 20 dollars for the box she has 144 - 20 = 124 dollars left. "
)


def answered(text: str, **known: object) -> Answered:
    def count(words: str) -> int:
        return len(words.split())

    return Answered(dict, [text], [""], None, count, **known)  # type: ignore[arg-type]


def repeats(text: str) -> bool:
    return repetitive_answers(answered(text)) == {"repetitive_answers": 1.0}


# --- how it ended ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"cut": True, "limit": 99}, {"cut_answers": 1.0}),
        ({"cut": False, "limit": 3}, {"cut_answers": 0.0}),  # its last allowed token ended it
        ({"limit": 3}, {"cut_answers": 1.0}),  # a text alone, of as many tokens as there may be
        ({"limit": 4}, {"cut_answers": 0.0}),
        ({}, {}),
    ],
)
def test_an_answer_is_cut_if_the_engine_says_so_or_its_text_is_as_long_as_it_may_be(
    known: dict[str, object], expected: dict[str, float]
) -> None:
    assert cut_answers(answered("one two three", **known)) == expected


@pytest.mark.parametrize("text", ["", " ", "\n\n\t", "\u200b\ufeff", "\u3000", "\x00\x1b"])
def test_an_answer_of_which_nothing_can_be_seen_is_empty(text: str) -> None:
    assert empty_answers(answered(text)) == {"empty_answers": 1.0}


@pytest.mark.parametrize("text", ["0", ".", " a ", "\ufffd", "は", "🙂"])
def test_an_answer_of_which_anything_can_be_seen_is_not_empty(text: str) -> None:
    assert empty_answers(answered(text)) == {"empty_answers": 0.0}


@pytest.mark.parametrize(("cut", "expected"), [(True, {"cut_prompts": 1.0}), (False, {"cut_prompts": 0.0}), (None, {})])
def test_a_cut_prompt_is_what_the_encoder_says(cut: bool | None, expected: dict[str, float]) -> None:
    assert cut_prompts(answered("", prompt_cut=cut)) == expected


# --- repetition --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100,
        "!" * 40,
        "no " * 12,
        "the the the the the the the the",  # eight tokens
        "1 " * 20,
        SENTENCE * 3,
        SENTENCE * 2 + SENTENCE[:23] + "\n\n" + "The cat",  # white space differs, the last copy is cut
        REASONING + SENTENCE * 9,  # after a normal half
        REASONING * 4 + SENTENCE * 12,
        REASONING * 3,
        "答えは42です。" * 4,
        "はい" * 10,
        "ok\n" * 30,
        "".join(f"{i}. {SENTENCE[:-2]} and the dog sat on the cat.\n" for i in range(1, 9)),  # the number counts up
        (SENTENCE * 12) + "#### 42",  # it ends in something else
        "".join(f"{i}猫がマットの上に座っていました。" for i in range(1, 9)),
        "ความรัก" * 8,
        "Answer: yes\nQuestion: is it?\n" * 5,
    ],
)
def test_a_text_that_repeats_itself_is_repetitive(text: str) -> None:
    assert repeats(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        "yes yes",
        "yes yes yes",
        "Ho ho ho!",
        "no no no no no no",
        "1000000",
        "0.3333333333333333",
        "93326215443944152681699238856266700490715968264381621468592963895217599993229915608941463976156518286253697920"
        "82722375825118521091686400" + "0" * 22,  # 100!, with its zeros
        "2 + 2 + 2 + 2 + 2 + 2 + 2 + 2 = 16",
        REASONING,
        REASONING + "So the answer is 124.\n#### 124",
        REASONING + SENTENCE * 2,  # two copies are none
        "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n| 4 | 5 | 6 |\n| 7 | 8 | 9 |\n| 10 | 11 | 12 |\n",
        "| x | x² |\n|--:|--:|\n" + "".join(f"| {x} | {x * x} |\n" for x in range(40)),
        "def f(x):\n    if x:\n        for y in x:\n            if y:\n                return y\n    return None\n",
        "<div><div><div><p>Hi</p></div></div></div>",
        "function f() {\n  if (a) {\n    if (b) {\n      g();\n    }\n  }\n}\n",
        "print('a')\nprint('b')\nprint('c')\nprint('d')\nprint('e')\n",
        "1. apples\n2. pears\n3. plums\n4. figs\n5. dates\n6. nuts\n",
        " ".join(map(str, range(200))),  # it counts on, which is for `cut_answers` to say
        "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]",
        "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所で"
        "ニャーニャー泣いていた事だけは記憶している。吾輩はここで始めて人間というものを見た。",
        "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？人不知而不愠，不亦君子乎？",
        "กรุงเทพมหานครเป็นเมืองหลวงและนครที่มีประชากรมากที่สุดของประเทศไทย",
        "Title\n=====\n\n" + REASONING + "\n" + "-" * 60,
        "42" + "\n" * 200,  # the limit cut it, but it says one thing
    ],
)  # fmt: skip
def test_a_text_that_does_not_repeat_itself_is_not(text: str) -> None:
    assert not repeats(text)


def test_both_rules_have_the_edges_that_they_state() -> None:
    assert not ends_in_loop("x" * 24) and ends_in_loop("x" * 25)  # 24 columns behind the first copy
    assert not ends_in_loop("そ" * 12) and ends_in_loop("そ" * 13)  # two columns each
    block = "abcdefghijklm"
    assert not ends_in_loop(block * 3 + "!") and ends_in_loop(block * 3) and not ends_in_loop((block * 3)[:-1])
    start = "".join(map(chr, range(0x100, 0x100 + 3 * 39)))
    assert ends_in_loop(start + block * 3) and not ends_in_loop("ß" + start + block * 3)  # a quarter of the answer
    start = "".join(map(chr, range(0x100, 0x100 + 3000)))
    assert ends_in_loop(start + "ab" * 100) and not ends_in_loop(start + "ab" * 99 + "a")  # 200 columns
    assert duplicate_share(" ".join(["w"] * 34)) == 0.0  # 31 of four words
    assert duplicate_share(" ".join(["w"] * 35)) == 1 - 1 / 32
    words = [str(i) for i in range(20)]
    # 40 words have 37 n-grams, 20 of them different; the three across the border are new.
    assert duplicate_share(" ".join(words + words)) == pytest.approx(1 - 20 / 37)


# --- script ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("The answer is 5.", "LATIN"),
        ("Die Straße ist naß", "LATIN"),
        ("Ｔｈｅ ａｎｓｗｅｒ", "LATIN"),
        ("Ответ: пять", "CYRILLIC"),
        ("答えは五つです", "JAPANESE"),
        ("コンピューター", "JAPANESE"),
        ("ｺﾝﾋﾟｭｰﾀ", "JAPANESE"),
        ("東京都", "HAN"),  # Japanese or Chinese
        ("因此，答案是一百二十四美元，这就是结果。", "CHINESE"),
        ("정답은 다섯", "HANGUL"),
        ("คำตอบคือห้า", "THAI"),
        ("الجواب خمسة", "ARABIC"),
        ("उत्तर पाँच है", "DEVANAGARI"),
        ("答えは Apple です", "JAPANESE"),  # three kana and two Han against five letters
        ("The word 猫 means cat", "LATIN"),
        ("```python\nprint('hello world')\n```\n答えは五", "JAPANESE"),
        ("`some_code` ответ", "CYRILLIC"),
        (r"\frac{1}{2} \cdot 5", None),
        ("B", None),
        ("5 kg", None),
        ("x = 3", None),
        ("124", None),
        ("", None),
        ("… — ！？ 🙂🙂🙂🙂", None),
        ("𝑎𝑏𝑐𝑑𝑒", None),  # mathematical
    ],
)
def test_the_script_of_an_answer_is_that_of_most_of_its_letters(text: str, script: str | None) -> None:
    assert script_name(text) == script
    expected = NO_SCRIPT if script is None else number_of(script)
    assert answer_script(answered(text)) == {SCRIPT: expected}


def test_scripts_have_different_numbers_the_same_in_every_process() -> None:
    assert number_of("LATIN") == 2749588410.0
    assert len({number_of(one) for one in ("LATIN", "CYRILLIC", "JAPANESE", "CHINESE", "HAN", "HANGUL")}) == 6


def named(*names: str | None) -> list[float]:
    return [NO_SCRIPT if name is None else number_of(name) for name in names]


@pytest.mark.parametrize(
    ("script", "others", "elsewhere", "foreign"),
    [
        ("LATIN", ["LATIN"], [], False),
        ("CHINESE", ["JAPANESE", "LATIN"], [], True),
        ("LATIN", ["JAPANESE", "LATIN"], [], False),
        (None, ["LATIN"], [], False),  # no letters are in no script
        ("CYRILLIC", [None], ["LATIN", None], True),  # other items of the task say which
        ("LATIN", [None, None], ["LATIN"], False),
        ("LATIN", [None], [None], False),  # nobody says which
        ("CYRILLIC", ["LATIN"], ["CYRILLIC"], True),  # the item itself goes first
        ("HAN", ["JAPANESE"], [], False),
        ("HAN", ["CHINESE"], [], False),
        ("CHINESE", ["HAN"], [], False),
        ("JAPANESE", ["HAN"], [], False),
        ("JAPANESE", ["CHINESE"], [], True),
        ("HAN", ["LATIN"], [], True),
        ("LATIN", ["HAN"], [], True),
    ],
)
def test_a_script_is_foreign_if_no_other_answered_in_it(
    script: str | None, others: list[str | None], elsewhere: list[str | None], foreign: bool
) -> None:
    assert is_foreign(named(script)[0], named(*others), named(*elsewhere)) == foreign


def test_known_scripts_are_those_of_the_items_and_of_their_task() -> None:
    known = KnownScripts()
    for scripts in (("LATIN", None), ("CYRILLIC", None)):
        known.note([ItemScore("t", i, {SCRIPT: script}) for i, script in enumerate(named(*scripts))])
    known.note([ItemScore("t", 2, {"acc": 1.0})])

    def foreign(item: int, script: str | None, task: str = "t") -> float:
        return known.foreign(ItemScore(task, item, {SCRIPT: named(script)[0]}))

    assert [foreign(0, one) for one in ("LATIN", "CYRILLIC", "THAI", None)] == [0.0, 0.0, 1.0, 0.0]
    assert [foreign(1, one) for one in ("LATIN", "THAI")] == [0.0, 1.0]
    assert foreign(2, "LATIN") != foreign(2, "LATIN")  # NaN: nobody answered it
    assert foreign(0, "LATIN", task="u") != 0.0


# --- real texts --------------------------------------------------------------------------------------------------


def test_no_part_of_the_documentation_counts_as_repetitive() -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parents[2].glob("docs/*.md"))]
    # A long table does repeat itself: a row like the next for each of two hundred families.
    texts = [re.sub(r"(?m)^\|.*\n", "", text) for text in texts]
    parts = [text[i : i + 1500] for text in texts for i in range(0, len(text), 1500)]
    assert len(parts) > 50
    assert not [json.dumps(part[:60]) for part in parts if repeats(part)]
