"""A few answers for a model card, beside those of the best parent, to be read; they are drawn by a hash, not chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from evomerge.analysis.answers import PARENT, AnsweredItem, answered_items, default_models
from evomerge.errors import RunError
from evomerge.record import Record, Split
from evomerge.store.run_dir import RunDir
from evomerge.system.secrets import looks_secret
from evomerge.system.text import markdown, markdown_code

EACH = 3
"""How many answers of each task are shown."""

PROMPT, ANSWER = 300, 300
"""Most characters of a prompt and of an answer."""

MOST_TASKS = 12
"""Of how many tasks answers are shown; a suite of a hundred tasks would fill the card."""


def card_answers(run: RunDir, record: Record) -> str:
    """Return the section of a card that shows answers of a merge; "" where none are kept on items that did not search.

    Of each task it shows an item that was gained, one that was lost, and one that both have wrong, as far as there are
    any; else others.

    Args:
        run: the run.
        record: the merge.
    """
    if record.is_baseline:
        return ""
    own = str(record.number)
    names = [own, *default_models(run)[1:]]
    for split in (Split.TEST, Split.VALIDATION):
        try:
            rows = answered_items(run, names, split=split)
        except RunError:  # none are kept there
            continue
        return _section(rows, names)
    return ""


def _section(rows: Sequence[AnsweredItem], names: Sequence[str]) -> str:
    parent = names[1].removeprefix(PARENT) if len(names) > 1 else ""
    tasks = list(dict.fromkeys(row.task for row in sorted(rows, key=lambda row: row.task)))
    beside = f" beside those of {markdown_code(parent)}, the best parent" if parent else ""
    split = rows[0].split
    parts = [
        f"## Answers\n\nOn {split} items{beside}: where they differ and agree, drawn by a hash of the item's number. "
        "Long texts are shown without their middle."
    ]
    for task in tasks[:MOST_TASKS]:
        chosen = _drawn([row for row in rows if row.task == task])
        head = ("item", "asked", "right answer", "this model", *([markdown(parent)] if parent else []))
        lines = [head, ["---"] * len(head)]
        for row in chosen:
            answers = [_answer(row, name) if name in row.answers else "–" for name in names]
            lines.append((f"{row.item}: {row.kind}", _code(row.question, PROMPT), _code(row.target, ANSWER), *answers))
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"{markdown_code(task)}:\n\n{table}")
    if len(tasks) > MOST_TASKS:
        parts.append(f"Likewise for {len(tasks) - MOST_TASKS} further tasks.")
    return "\n\n".join(parts)


def _drawn(rows: Sequence[AnsweredItem]) -> list[AnsweredItem]:
    """Return the items of a task that are shown: of each kind the one whose hash is the smallest, then others."""
    order = sorted(rows, key=lambda row: hashlib.sha256(f"{row.task}/{row.item}".encode(errors="replace")).digest())
    first = [next((row for row in order if row.kind == kind), None) for kind in ("gained", "lost", "wrong")]
    found = [row for row in first if row is not None]
    return [*found, *(row for row in order if row not in found)][:EACH]


def _answer(row: AnsweredItem, name: str) -> str:
    one, text = row.answers[name], row.text(name)
    if text is None:
        text = ", ".join(str(response) for response in one.answer.responses)
    mark = "" if one.right is None else "right: " if one.right else "wrong: "
    return mark + (_code(text, ANSWER) if text.strip() else "(empty)")


def _code(value: Any, most: int) -> str:
    """Return a text as code, which means nothing in Markdown; one that looks like a secret is left out."""
    if value is None:
        return "–"
    text = str(value)
    if looks_secret(text):
        return "(left out: it looks like a secret)"
    if len(text) > most:
        text = f"{text[: most // 3]} … {text[-(most - most // 3) :]}"
    return markdown_code(text)
