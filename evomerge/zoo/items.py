"""The items of the zoo's tasks: generated, split, written as JSON lines."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evomerge.zoo.documents import PROMPT_END, reading_questions, set_up
from evomerge.zoo.grammar import KINDS, Language, Split, Story, expression, join, make_story

Item = dict[str, Any]


def problems(seed: int, split: Split, language: Language, count: int) -> list[Item]:
    """Return word problems of one split, no two alike; the kinds take turns, so that every prefix is balanced."""
    rng = random.Random(f"problems {seed}")
    items: dict[str, Item] = {}
    while len(items) < count:
        story = make_story(rng, split, KINDS[len(items) % len(KINDS)])
        prompt = story.problem(language) + PROMPT_END
        items.setdefault(prompt, _item(prompt, str(story.answer), story))
    return list(items.values())


def set_ups(seed: int, split: Split, count: int) -> list[Item]:
    """Return the Japanese problems of a split with their expressions, which the Japanese expert writes."""
    rng = random.Random(f"set-ups {seed}")
    items: dict[str, Item] = {}
    while len(items) < count:
        story = make_story(rng, split, KINDS[len(items) % len(KINDS)])
        prompt = story.problem("ja") + PROMPT_END
        items.setdefault(prompt, _item(prompt, set_up(story.steps), story))
    return list(items.values())


def readings(seed: int, split: Split, count: int) -> list[Item]:
    """Return Japanese reading questions with four choices, three of them wrong."""
    rng = random.Random(f"readings {seed}")
    items: dict[str, Item] = {}
    while len(items) < count:
        story = make_story(rng, split, KINDS[len(items) % len(KINDS)])
        # Only questions for a number: a wrong choice is then another number of the story or a near one.
        questions = [(q, a) for q, a in reading_questions(story) if a.ja.isdigit()]
        question, answer = rng.choice(questions)
        prompt = join([*story.sentences, question], "ja") + PROMPT_END
        right = int(answer.ja)
        others = {*story.numbers, story.answer, right + 1, right - 1, right + 2} - {right, 0}
        numbers = [right, *rng.sample(sorted(others), 3)]
        rng.shuffle(numbers)
        item = _item(prompt, answer.ja, story)
        item |= {"choices": [f"答えは{n}です。" for n in numbers], "label": numbers.index(right)}
        items.setdefault(prompt, item)
    return list(items.values())


def write_items(path: Path, items: Iterable[Mapping[str, Any]]) -> None:
    """Write items as JSON lines."""
    lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    path.write_text("".join(lines), encoding="utf-8")


def _item(prompt: str, answer: str, story: Story) -> Item:
    return {"prompt": prompt, "answer": answer, "kind": story.kind, "expression": expression(story.steps)}


# No model was scored on these items before the shipped design was chosen; see README.md.
TEST_SEED = 20261121


def task_items() -> dict[str, list[Item]]:
    """Return the items of every task, by the task's name."""
    return {
        "zoo_ja_math": problems(100, "valid", "ja", 400),
        "zoo_ja_math_test": problems(TEST_SEED, "test", "ja", 600),
        "zoo_en_math": problems(101, "valid", "en", 300),
        "zoo_ja_setup": set_ups(102, "valid", 300),
        "zoo_ja_reading": readings(103, "valid", 300),
    }


if __name__ == "__main__":
    from evomerge.zoo import tasks_path

    for name, items in task_items().items():
        write_items(tasks_path() / "items" / f"{name}.jsonl", items)
