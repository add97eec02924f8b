"""The grammar: both languages tell the same story, and the answers are right."""

from __future__ import annotations

import random
import re

import pytest

from evomerge.zoo.grammar import (
    KINDS,
    TEMPLATES,
    Operation,
    Pair,
    calculation,
    expression,
    make_story,
    pair_split,
)

SPLITS = ("train", "valid", "test")
GAINS = ("gets", "buys", "finds", "picks up", "borrows", "puts in", "brings", "adds")
LOSSES = ("loses", "sells", "throws away", "uses", "gives away", "takes out", "breaks", "takes away")
GAINS_JA = ("もらい", "買い", "見つけ", "拾い", "借り", "入れました", "持ってき", "加え")
LOSSES_JA = ("なくし", "売り", "捨て", "使い", "あげ", "取り出し", "こわし", "持っていき")


def numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def solve(
    text: str, product: str, difference: str, together: str, gains: tuple[str, ...], losses: tuple[str, ...]
) -> int:
    """Work a problem out from its words alone, without the generator's steps."""
    if re.search(product, text):
        left, right = numbers(text)
        return left * right
    if re.search(difference, text):
        left, right = numbers(text)
        return left - right
    if re.search(together, text):
        return sum(numbers(text))
    start, *changes = [s for s in re.split(r"[.。?]", text) if numbers(s)]
    (total,) = numbers(start)
    for change in changes:
        (number,) = numbers(change)
        gained = any(verb in change for verb in gains)
        assert gained != any(verb in change for verb in losses), change
        total += number if gained else -number
    return total


def solve_english(text: str) -> int:
    return solve(text, r"[Ee]ach|every day", r"How many more|more than|more does", r"they have", GAINS, LOSSES)


def solve_japanese(text: str) -> int:
    return solve(text, "ずつ|毎日|それぞれ", "より", "二人", GAINS_JA, LOSSES_JA)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", SPLITS)
def test_an_independent_solver_finds_the_answer_in_both_languages(kind, split):
    rng = random.Random(3)
    for _ in range(60):
        story = make_story(rng, split, kind)
        assert solve_english(story.problem("en")) == story.answer, story.problem("en")
        assert solve_japanese(story.problem("ja")) == story.answer, story.problem("ja")


@pytest.mark.parametrize("split", SPLITS)
def test_both_languages_have_the_same_numbers(split):
    rng = random.Random(4)
    for _ in range(300):
        story = make_story(rng, split)
        assert sorted(numbers(story.problem("en"))) == sorted(numbers(story.problem("ja")))
        assert numbers(expression(story.steps)) == list(story.numbers)


@pytest.mark.parametrize("split", SPLITS)
def test_every_equality_of_a_calculation_holds(split):
    rng = random.Random(5)
    for _ in range(300):
        story = make_story(rng, split)
        values = {eval(part) for part in calculation(story.steps).split("=")}
        assert values == {story.answer}
        assert story.answer >= 1


@pytest.mark.parametrize("split", SPLITS)
def test_a_story_uses_templates_and_a_number_pair_of_its_split_only(split):
    rng = random.Random(6)
    for _ in range(300):
        story = make_story(rng, split)
        assert {t.split for t in story.templates} == {split}
        assert pair_split(story.steps[0]) == split
        if split == "train":
            assert {pair_split(step) for step in story.steps} == {"train"}


@pytest.mark.parametrize("slot", TEMPLATES)
def test_every_slot_has_templates_of_every_split_and_no_wording_twice(slot):
    templates = TEMPLATES[slot]
    assert {t.split for t in templates} == set(SPLITS)
    for language in ("en", "ja"):
        assert len({getattr(t, language) for t in templates}) == len(templates)


def test_a_held_out_english_template_has_no_word_that_training_lacks():
    def words(split):
        texts = [t.en for ts in TEMPLATES.values() for t in ts if t.split == split]
        return set(re.findall(r"[A-Za-z]+", " ".join(texts)))

    assert words("valid") | words("test") <= words("train")


def test_the_order_of_a_sum_or_product_does_not_change_its_split():
    assert all(
        pair_split(Operation(op, a, b)) == pair_split(Operation(op, b, a))
        for op in "+*"
        for a in range(16)
        for b in range(16)
    )


def test_about_a_fifth_of_the_pairs_of_each_operation_is_for_the_test():
    for op, largest in (("+", 15), ("-", 15), ("*", 8)):
        pairs = [
            Operation(op, a, b) for a in range(2, largest + 1) for b in range(2, largest + 1) if op != "-" or a > b
        ]
        splits = [pair_split(pair) for pair in pairs]
        assert 0.12 < splits.count("test") / len(pairs) < 0.28
        assert 0.04 < splits.count("valid") / len(pairs) < 0.18


def test_the_same_generator_tells_the_same_story():
    assert make_story(random.Random(7), "test") == make_story(random.Random(7), "test")


def test_an_unknown_kind_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown kind of story 'poem'; known: person_add"):
        make_story(random.Random(0), "train", "poem")


def test_a_pair_gives_its_text_in_each_language():
    assert [Pair("egg", "卵").text(language) for language in ("en", "ja")] == ["egg", "卵"]
