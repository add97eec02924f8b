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
    any; else others. The parent beside it is the best one at the task.

    Args:
        run: the run.
        record: the merge.
    """
    if record.is_baseline:
        return ""
    own = str(record.number)
    for split in (Split.TEST, Split.VALIDATION):
        tasks = sorted({answer.task for answer in run.database.answers.of(record.number, split)})
        parts = [
            f"## Answers\n\nOn {split} items, beside those of the parent that is best at the task: where they differ "
            "and agree, drawn by a hash of the item's number. Long texts are shown without their middle."
        ]
        for task in tasks[:MOST_TASKS]:
            names = [own, *default_models(run, task)[1:]]
            try:
                parts.append(_table(answered_items(run, names, split=split, tasks=[task]), names))
            except RunError:  # those of the parent were not kept
                parts.append(_table(answered_items(run, names[:1], split=split, tasks=[task]), names[:1]))
        if len(tasks) > MOST_TASKS:
            parts.append(f"Likewise for {len(tasks) - MOST_TASKS} further tasks.")
        if tasks:
            return "\n\n".join(parts)
    return ""


def _table(rows: Sequence[AnsweredItem], names: Sequence[str]) -> str:
    """Return the table of one task."""
    parents = [markdown(name.removeprefix(PARENT)) for name in names[1:]]
    head = ("item", "asked", "right answer", "this model", *parents)
    lines: list[Sequence[str]] = [head, ["---"] * len(head)]
    for row in _drawn(rows):
        answers = [_answer(row, name) if name in row.answers else "–" for name in names]
        lines.append((f"{row.item}: {row.kind}", _code(row.question, PROMPT), _code(row.target, ANSWER), *answers))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{markdown_code(rows[0].task)}:\n\n{table}"


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
    text = str(value).strip()
    if looks_secret(text):
        return "(left out: it looks like a secret)"
    if len(text) > most:
        text = f"{text[: most // 3]} … {text[-(most - most // 3) :]}"
    return markdown_code(text)
