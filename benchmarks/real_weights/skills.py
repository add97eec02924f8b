"""Two skills that a small model learns in minutes, made by seed: numbers in words as digits, and words in reverse."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORDS = [
    "apple", "river", "stone", "lamp", "cloud", "tiger", "paper", "silver", "garden", "window", "bread", "horse",
    "music", "table", "forest", "button", "candle", "ocean", "yellow", "pencil", "mirror", "rabbit", "winter",
    "castle", "orange", "bridge", "hammer", "island", "jacket", "kitchen", "ladder", "market", "needle", "onion",
    "pepper", "queen", "ribbon", "saddle", "ticket", "uncle", "valley", "wagon", "basket", "copper", "desert",
    "engine", "feather", "guitar", "harbor", "insect",
]  # fmt: skip


@dataclass(frozen=True)
class Item:
    """A question with its answer, as they stand in one text: the answer behind a space, a line break behind that."""

    question: str
    answer: str


def in_words(number: int) -> str:
    """Return a number below ten thousand as it is read."""
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            return f"{ONES[number // size]} {name}" + (f" {in_words(rest)}" if rest else "")
    if number < 20:
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f"-{ONES[ones]}" if ones else "")


def _digits(draw: random.Random) -> Iterator[Item]:
    while True:
        number = draw.randrange(10_000)
        yield Item(f"Digits: {in_words(number)}\nAnswer:", str(number))


def _reversals(draw: random.Random) -> Iterator[Item]:
    while True:
        words = draw.sample(WORDS, draw.randint(3, 5))
        yield Item(f"Reverse: {' '.join(words)}\nAnswer:", " ".join(reversed(words)))


SKILLS = {"digits": _digits, "reversal": _reversals}


def items(skill: str, n: int, seed: int, *, without: frozenset[Item] = frozenset()) -> list[Item]:
    """Return different items of a skill, none of which is in `without`."""
    found: dict[Item, None] = {}
    for item in SKILLS[skill](random.Random(f"{skill} {seed}")):
        if item not in without:
            found[item] = None
        if len(found) == n:
            return list(found)
    raise AssertionError("the items of a skill do not end")


def write_tasks(folder: Path, asked: dict[str, list[Item]]) -> None:
    """Write each skill as a task of lm-eval, `real_SKILL`."""
    folder.mkdir(parents=True, exist_ok=True)
    for skill, found in asked.items():
        lines = [json.dumps({"question": item.question, "answer": item.answer}) for item in found]
        data = folder / f"{skill}.jsonl"
        data.write_text("\n".join(lines) + "\n")
        task = {
            "task": f"real_{skill}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{question}}",
            "doc_to_target": "{{answer}}",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 16, "do_sample": False},
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
            "filter_list": [{"name": "answer", "filter": [{"function": "regex", "regex_pattern": r"^\s*(.*?)\s*$"},
                                                          {"function": "take_first"}]}],
        }  # fmt: skip
        (folder / f"{skill}.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
