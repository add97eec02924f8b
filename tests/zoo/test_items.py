"""The items: what ships is what the generator makes, and no item helps with another split's."""

from __future__ import annotations

import json
import random
import re

import pytest

from evomerge.zoo import tasks_path
from evomerge.zoo.answers import judge_english, judge_exact, judge_japanese
from evomerge.zoo.documents import BASE_MIX, JAPANESE_MIX, MATH_MIX, draw
from evomerge.zoo.grammar import NAMES, PLACES, TEMPLATES, THINGS, Operation, pair_split
from evomerge.zoo.items import task_items

ITEMS = task_items()


def pattern(template, language):
    """A template as a regular expression, its slots open."""
    parts = re.split(r"\{(\w)\}", getattr(template, language))  # words and names of slots in turn
    names = "|".join(getattr(n, language) for n in NAMES)
    slots = {"n": names, "m": names, "a": r"\d+", "b": r"\d+", "c": "[個冊本枚]"}
    slots["o"] = "|".join(getattr(t, language) for t in THINGS)
    slots["p"] = "|".join(getattr(p, language) for p in PLACES)
    texts = [f"(?:{slots[p]})" if i % 2 else re.escape(p) for i, p in enumerate(parts)]
    start = r"(?:^|(?<=[.?:。] )|(?<=[。?\n]))"  # a whole sentence: a longer one may end in the same words
    return re.compile(start + "".join(texts), re.MULTILINE)


def first_step(item):
    left, op, right = re.match(r"(\d+)([-+*])(\d+)", item["expression"]).groups()
    return Operation(op, int(left), int(right))


@pytest.mark.parametrize("task", ITEMS)
def test_the_shipped_items_are_what_the_generator_makes(task):
    lines = (tasks_path() / "items" / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == ITEMS[task]


@pytest.mark.parametrize("task", ITEMS)
def test_no_item_stands_twice_and_all_are_of_one_split(task):
    split = "test" if task.endswith("_test") else "valid"
    assert len({item["prompt"] for item in ITEMS[task]}) == len(ITEMS[task])
    assert {pair_split(first_step(item)) for item in ITEMS[task]} == {split}


def test_search_and_test_items_share_no_first_calculation():
    def pairs(task):
        return {tuple(first_step(item)) for item in ITEMS[task]}

    assert not pairs("zoo_ja_math") & pairs("zoo_ja_math_test")


@pytest.mark.parametrize("mix", [BASE_MIX, MATH_MIX, JAPANESE_MIX], ids=["base", "math", "japanese"])
def test_training_documents_have_no_held_out_sentence(mix):
    rng = random.Random(1)
    text = "\n".join("".join(draw(mix, rng)) for _ in range(1500))
    for templates in TEMPLATES.values():
        for template in templates:
            if template.split != "train":
                for language in ("en", "ja"):
                    assert not pattern(template, language).search(text), getattr(template, language)


def test_held_out_sentences_are_found_by_the_same_search_in_the_test_items():
    text = "\n".join(item["prompt"] for item in ITEMS["zoo_ja_math_test"])
    tests = [t for templates in TEMPLATES.values() for t in templates if t.split == "test"]
    found = [bool(pattern(t, "ja").search(text)) for t in tests]
    assert all(found)


def test_only_the_math_expert_reads_solved_problems_and_only_in_english():
    rng = random.Random(2)
    for mix in (BASE_MIX, JAPANESE_MIX):
        for _ in range(1500):
            prompt, answer = draw(mix, rng)
            is_problem = re.search(r"How many .*\?$|何.*か\?$", prompt.strip()) and len(re.findall(r"\d+", prompt)) > 1
            given = "=" in prompt
            assert given or not (is_problem and re.search(r"=\d", answer)), (prompt, answer)
    for _ in range(500):
        assert not re.search(r"[ぁ-んァ-ヴ一-龥]", "".join(draw(MATH_MIX, rng)))


def test_every_reading_item_has_four_different_choices_and_the_label_is_right():
    for item in ITEMS["zoo_ja_reading"]:
        assert len(set(item["choices"])) == 4
        assert item["choices"][item["label"]] == f"答えは{item['answer']}です。"


@pytest.mark.parametrize(
    ("text", "acc", "right_number", "japanese"),
    [
        ("8+13=21。答えは21です。", 1, 1, 1),
        ("8+13=21. The answer is 21.", 0, 1, 0),
        ("8+13です。", 0, 0, 1),
        ("答えは21です。 The end", 0, 1, 0),
        ("8+13=21", 0, 1, 0),
        ("答えは121です。", 0, 0, 1),
        ("", 0, 0, 0),
    ],
)
def test_a_japanese_answer_needs_the_right_number_and_no_latin_letter(text, acc, right_number, japanese):
    found = judge_japanese(text, "21")
    assert found == {"acc": acc, "right_number": right_number, "japanese": japanese}


def test_an_english_answer_needs_the_right_number_and_no_japanese():
    assert judge_english("2+3=5. The answer is 5.", "5") == {"acc": 1, "right_number": 1}
    assert judge_english("2+3=5。答えは5です。", "5") == {"acc": 0, "right_number": 1}


def test_an_exact_answer_may_differ_in_outer_blanks_only():
    assert judge_exact(" 2+3です。\n", "2+3です。") == {"acc": 1}
    assert judge_exact("2+3", "2+3です。") == {"acc": 0}
