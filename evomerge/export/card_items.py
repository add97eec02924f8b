"""Which items the scores of a card were measured on: data set, split, number, and which of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from evomerge.analysis.measured import Measured
from evomerge.export.card_scores import table
from evomerge.record import Split
from evomerge.system.text import json_text, markdown, markdown_code

ITEMS_FILE = "items.json"
"""The name of the file in a model folder that lists the items."""

_SHOWN = 48
"""Most characters of the numbers of items in a cell."""


def items_section(measured: Mapping[str, Mapping[Split, Measured]]) -> str:
    """Return the section of a card that names them; "" where none are known."""
    rows = []
    for task, splits in measured.items():
        for split, one in splits.items():
            if one.items:
                rows.append((markdown(task), str(split), _source(one), f"{len(one.items)} of {one.documents}",
                             _numbers(one.items)))  # fmt: skip
    if not rows:
        return ""
    return (
        "## Items\n\nScores are means over these items. Search items chose the recipe, validation items the winner "
        f"among the finalists, test items nothing. `{ITEMS_FILE}` lists the numbers of all of them, counted from 0 in "
        "the order in which lm-eval reads the task.\n\n"
        + table(("task", "split", "documents of", "items", "which"), rows)
    )


def items_text(measured: Mapping[str, Mapping[Split, Measured]]) -> str:
    """Return the file that lists the items, as JSON."""
    data = {
        task: {
            str(split): {"task": one.task, **one.data.to_data(), "documents": one.documents, "items": list(one.items)}
            for split, one in splits.items()
        }
        for task, splits in measured.items()
    }
    lines = (
        f"  {json_text(task)}: {{\n"
        + ",\n".join(f"    {json_text(split)}: {json_text(one)}" for split, one in splits.items())
        + "\n  }"
        for task, splits in data.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def dataset_ids(measured: Mapping[str, Mapping[Split, Measured]], split: Split) -> list[str]:
    """Return the data sets on the Hub that the items of a split are from."""
    found = (one.data.dataset for splits in measured.values() for name, one in splits.items() if name == split)
    return list(dict.fromkeys(name for name in found if name is not None))


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as "0–3, 7, 9–10"."""
    if not numbers:
        return ""
    starts = [numbers[0], *(after for before, after in pairwise(numbers) if after != before + 1)]
    ends = [*(before for before, after in pairwise(numbers) if after != before + 1), numbers[-1]]
    return ", ".join(f"{low}" if low == high else f"{low}–{high}" for low, high in zip(starts, ends, strict=True))


def _source(one: Measured) -> str:
    data = one.data
    parts: Iterable[str | None] = (
        data.config,
        data.split and f"split {data.split}",
        data.revision and data.revision[:12],
    )
    if data.dataset is None:
        return markdown_code(one.task) + " (files of the task)" * (data.split is not None)  # an older run does not say
    link = f"[{markdown(data.dataset)}](https://huggingface.co/datasets/{data.dataset})"
    details = ", ".join(markdown(part) for part in parts if part)
    return f"{link}{f' ({details})' if details else ''}, by {markdown_code(one.task)}"


def _numbers(numbers: Sequence[int]) -> str:
    text = ranges(numbers)
    return text if len(text) <= _SHOWN else f"{text[: text.rindex(',', 0, _SHOWN)]}, …"
