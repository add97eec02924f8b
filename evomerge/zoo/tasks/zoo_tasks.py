"""What the YAML files beside this one call: the items, and how an answer is judged.

lm-eval runs this file by its path, so it imports by full name only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets import Dataset

from evomerge.zoo import answers

_ITEMS = Path(__file__).parent / "items"


def load_items(*, items: str, **_: Any) -> dict[str, Dataset]:
    """Return the items of one task, held in memory: no cache, no network, any working directory."""
    lines = (_ITEMS / f"{items}.jsonl").read_text(encoding="utf-8").splitlines()
    return {"test": Dataset.from_list([json.loads(line) for line in lines])}


def judge_japanese(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return the right number, said in Japanese; and each alone."""
    return answers.judge_japanese(results[0], doc["answer"])


def judge_english(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return the right number, said in English; and the right number alone."""
    return answers.judge_english(results[0], doc["answer"])


def judge_exact(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return the answer, letter by letter."""
    return answers.judge_exact(results[0], doc["answer"])
