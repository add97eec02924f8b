"""What an exported folder is asked before it appears: prompts of the run's own tasks, else a few neutral ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evomerge.analysis.choice import parent_names
from evomerge.analysis.short_answers import LOOKS
from evomerge.record import ItemPrompt, Record, Split
from evomerge.store.run_dir import RunDir

LONGEST = 128
"""The most tokens of an answer: enough to see a loop, few enough to be told on a CPU in a minute or two."""

SHORT = 32
"""Tokens of an answer to a prompt of a task that compares options, which says nothing of how long an answer is."""


@dataclass(frozen=True)
class Question:
    """One prompt.

    Attributes:
        text: what is asked.
        chat: whether it is a user's message, to be written by each model's own chat template where it has one; else
            the text is the whole prompt.
        until: texts that end an answer.
        max_new_tokens: the longest answer.
        limit: the longest answer that the run allowed.
        answers: name of a parent to what it answered in the run, within `limit` tokens.
    """

    text: str
    chat: bool = False
    until: tuple[str, ...] = ()
    max_new_tokens: int = LONGEST
    limit: int = LONGEST
    answers: Mapping[str, str] = field(default_factory=dict)


def run_questions(run: RunDir, record: Record) -> list[Question]:
    """Return at most as many prompts as are ever asked (`LOOKS`), task by task in turn, test items first.

    Prompts are those that the merge was asked in the run; where none of its answers are kept, those of the parent that
    lends its tokenizer, whose chat template wrote them, else of any parent. Items are drawn by a hash.

    Args:
        run: the run.
        record: the merge.
    """
    named = parent_names(run)
    baselines = run.database.baselines()
    parents = {one.name: one for one in baselines if one.name in named}
    lender = parents.get(record.recipe.tokenizer_lender or record.recipe.donor.name)
    asked = [record, *([lender] if lender is not None else []), *parents.values()]
    thinks = ((run.config.get("evaluation") or {}).get("chat") or {}) if run.config else {}
    keeps_all = not (isinstance(thinks, Mapping) and thinks.get("think_end_token") is not None)
    written: list[Question] = []
    compared: list[Question] = []
    for split in reversed(Split):
        prompts = next(filter(None, (run.database.answers.prompts(one.number, split) for one in asked)), {})
        texts = {name: _texts(run, one, split) for name, one in parents.items()} if keeps_all else {}
        for prompt in _drawn(prompts.values()):
            key = (prompt.task, prompt.item)
            answers = {name: own[key] for name, own in texts.items() if key in own}
            settings = prompt.requests[0][1] if len(prompt.requests[0]) > 1 else None
            if isinstance(settings, Mapping):
                written.append(_generated(str(prompt.requests[0][0]), settings, answers))
            elif isinstance(settings, str):
                compared.append(Question(str(prompt.requests[0][0]), max_new_tokens=SHORT))
    return (written or compared)[: LOOKS[-1]]


def _drawn(prompts: Sequence[ItemPrompt] | Any) -> Iterator[ItemPrompt]:
    """Yield whole prompts, one of each task in turn."""
    by_task: dict[str, list[ItemPrompt]] = {}
    for prompt in prompts:
        if prompt.hashes is None and prompt.requests:  # else a long text of it was not kept whole
            by_task.setdefault(prompt.task, []).append(prompt)
    for task, own in by_task.items():
        own.sort(key=lambda one: hashlib.sha256(f"{task}/{one.item}".encode(errors="replace")).digest())
    for i in range(max(map(len, by_task.values()), default=0)):
        yield from (own[i] for own in by_task.values() if i < len(own))


def _generated(text: str, settings: Mapping[str, Any], answers: Mapping[str, str]) -> Question:
    until = settings.get("until") or ()
    limit = next((settings[name] for name in ("max_gen_toks", "max_new_tokens") if settings.get(name)), LONGEST)
    return Question(
        text,
        until=tuple(until) if isinstance(until, (list, tuple)) else (str(until),),
        max_new_tokens=min(int(limit), LONGEST),
        limit=int(limit),
        answers=answers,
    )


def _texts(run: RunDir, record: Record, split: Split) -> dict[tuple[str, int], str]:
    found = run.database.answers.of(record.number, split)
    return {(one.task, one.item): one.responses[0] for one in found if one.responses and _is_text(one.responses[0])}


def _is_text(response: Any) -> bool:
    return isinstance(response, str)


NEUTRAL = tuple(
    Question(text, chat=True)
    for text in (
        "What is the capital of France?",
        "Write one sentence about the sea.",
        "How many legs does a spider have?",
        "Name three colours.",
        "What is 12 plus 30?",
        "Why is the sky blue?",
        "Translate into German: good morning.",
        "Give me a short recipe for pancakes.",
        "日本の首都はどこですか。",
        "Quelle est la couleur de la neige ?",
        "请用一句话介绍你自己。",
        "Write a Python function that adds two numbers.",
        "Who wrote Romeo and Juliet?",
        "What comes after Tuesday?",
        "Say hello in Spanish.",
        "Explain in one sentence what a dictionary is.",
        "Is water heavier than oil?",
        "List the first five prime numbers.",
        "What do bees make?",
        "¿Cuántos días tiene una semana?",
        "Wie heißt die Hauptstadt von Österreich?",
        "Finish the sentence: once upon a time,",
        "What is the opposite of hot?",
        "Which planet is closest to the sun?",
    )
)
"""What is asked of a merge without a run."""
