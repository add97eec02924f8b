"""Answers as the page holds them: texts that can be seen, cut where they are long, and as many items as fit.

The page has them as JSON with short keys, which `static/answers.js` shows:

- of an item `t`, `s`, `i`: places of its task and split, and its number; `q`: what it asks; `w`: what was said before,
  as a list of `[who, text]`; `b`: the place of what is said before several items alike, such a list, too; `o`: options;
  `g`: the right answer; `a`: by the place of a model its answer;
- of an answer `x`: its text; `f`: what the filter made of it; `v`: the score; `r`: 1 right, 0 wrong, missing: not
  judged; `p`: of each option its probability among the options; `c`: the place of the option that was chosen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.analysis.answers import AnsweredItem, ModelAnswer, kind_of
from evomerge.report.turns import Turns, turns_of
from evomerge.system.text import visible

MOST_BYTES = 1_500_000
"""About so much all items may take, as JSON in UTF-8."""

PROMPT, ANSWER, SHORT = 2400, 1600, 300
"""Most characters of a prompt, of an answer, and of an option, a target or what a filter made."""

LEAVE = 0.8
"""At most so much of the room is taken by items that come first, where others are left."""

SHARED = 200
"""Prompts share a beginning (a description, examples) that has at least so many characters."""

Row = dict[str, Any]
Said = list[list[str]]


def answer_rows(
    items: Sequence[AnsweredItem], places: Mapping[str, int], tasks: Sequence[str], splits: Sequence[str]
) -> tuple[list[Row], list[Said]]:
    """Return the rows of items, and the beginnings that their prompts share.

    Args:
        items: of any tasks and splits.
        places: name of a model in the items to its place among the models of the page; others are left out.
        tasks: the tasks of the page.
        splits: its splits.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault((item.task, str(item.split)), []).append(place)
    beginnings: list[Said] = []
    asked: dict[int, Row] = {}
    for group in groups.values():
        known = [place for place in group if items[place].question is not None]
        shared, rests = without_beginning([str(items[place].question) for place in known])
        if shared:
            beginnings.append(shared)
        for place, rest in zip(known, rests, strict=True):
            asked[place] = {"b": len(beginnings) - 1, **rest} if shared else rest
    rows = []
    for number, item in enumerate(items):
        row: Row = {"t": tasks.index(item.task), "s": splits.index(str(item.split)), "i": item.item}
        row |= asked.get(number, {})
        if item.options is not None:
            row["o"] = [visible(one, most=SHORT, lines=True) for one in item.options]
        if item.target is not None:
            row["g"] = visible(item.target, most=SHORT, lines=True)
        row["a"] = {places[name]: _answer(item, name) for name in item.answers if name in places}
        rows.append(row)
    return rows, beginnings


def without_beginning(prompts: Sequence[str]) -> tuple[Said, list[Row]]:
    """Return what all prompts begin with, and of each the fields of a row that say what is left of it.

    Where a chat template wrote them, the first turns may be shared; of other texts what goes to the end of a line.
    """
    if not prompts:
        return [], []
    chats = [turns_of(prompt) for prompt in prompts]
    if all(turns is not None for turns in chats):
        turns = [one or [] for one in chats]
        n = min([_in_common(turns), *(len(one) - 1 for one in turns)])
        n = n if sum(len(said) for _, said in turns[0][:n]) >= SHARED else 0
        return _said(turns[0][:n]), [_asked(one[n:]) for one in turns]
    shared = prompts[0][: _in_common(prompts)]
    end = shared.rfind("\n") + 1
    end = end if end >= SHARED else 0
    rests = [
        _asked([("", prompt[end:].strip())] if turns is None or end else turns)
        for prompt, turns in zip(prompts, chats, strict=True)
    ]
    return _said([("", shared[:end].strip())] if end else []), rests


def as_many_as_fit(rows: Sequence[Row], ranks: Sequence[int], most: int = MOST_BYTES) -> list[int]:
    """Return the places of the rows that fit, ascending: of each rank as many as fit, or an even sample of them.

    Args:
        rows: the rows.
        ranks: of each; those of a smaller one come first, and leave at least a fifth of the room to the others.
        most: how many bytes they may take.
    """
    sizes = [len(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")) for row in rows]
    kept: list[int] = []
    left = sorted(set(ranks))
    for rank in left:
        own = [place for place, one in enumerate(ranks) if one == rank]
        total, room = sum(sizes[place] for place in own), most - sum(sizes[place] for place in kept)
        if rank != left[-1] and total > LEAVE * room:
            room = int(LEAVE * room)
        kept += own if total <= room else _sample(own, sizes, room)
    return sorted(kept)


def _sample(places: Sequence[int], sizes: Sequence[int], room: int) -> list[int]:
    """Return evenly spread places whose sizes fit; the longest are left out where their mean size was too small."""
    n = int(len(places) * room / sum(sizes[place] for place in places))
    sample = [places[math.floor((k + 0.5) * len(places) / n)] for k in range(n)]
    while sample and sum(sizes[place] for place in sample) > room:
        sample.remove(max(sample, key=lambda place: sizes[place]))
    return sample


def kind_beside(item: AnsweredItem, model: str, other: str | None) -> str:
    """Return what became of an item, one of `analysis.answers.KINDS`, for a model beside another one."""
    own = [item.answers[name] for name in (model, other) if name is not None and name in item.answers]
    return kind_of(own, item.direction) if own and model in item.answers else "not judged"


def _in_common(all_of: Sequence[Sequence[Any]]) -> int:
    """Return how many elements all of some sequences begin with in common; 0 for a single one."""
    if len(all_of) < 2:
        return 0
    least, most = min(all_of), max(all_of)  # type: ignore[type-var]  # texts, or lists of texts
    pairs = zip(least, most, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(least), len(most)))


def _answer(item: AnsweredItem, name: str) -> Row:
    one = item.answers[name]
    text, options = item.text(name), item.options
    row: Row = {}
    if one.score is not None:
        row["v"] = float(f"{one.score:.6g}")
    if one.right is not None:
        row["r"] = int(one.right)
    shares = None if options is None else probabilities(one, len(options))
    if options is not None and shares is not None:
        row["p"] = shares
        row["c"] = max(range(len(shares)), key=lambda place: shares[place])
        return row
    if text is None:
        told = ", ".join(visible(response, most=SHORT) for response in one.answer.responses)
        return {**row, "x": f"log-probability, greedy: {told}" if told else "no answer"}
    row["x"] = _middle(text, ANSWER)
    made = item.filtered(name)
    if made is not None and str(made).strip() != text.strip():
        row["f"] = visible(made, most=SHORT)
    return row


def probabilities(answer: ModelAnswer, options: int) -> list[float] | None:
    """Return how likely each option was among all of them, `(options,)`; None: no log-probabilities are known."""
    values = [one[0] if isinstance(one, (list, tuple)) else one for one in answer.answer.responses[:options]]
    numbers = [float(one) for one in values if isinstance(one, (int, float)) and not math.isnan(one)]
    if len(numbers) != options or not numbers or max(numbers) == -math.inf:
        return None
    odds = [math.exp(one - max(numbers)) for one in numbers]
    return [float(f"{one / math.fsum(odds):.4g}") for one in odds]


def _asked(turns: Turns) -> Row:
    """Return the last question of a prompt, with what the model is made to say behind it, and what was said before."""
    at = max((place for place, (who, _) in enumerate(turns) if who in ("", "user")), default=0)
    question = "\n\n".join([turns[at][1], *(f"{who}: {said}" for who, said in turns[at + 1 :])])
    row: Row = {"q": _middle(question, PROMPT)}
    return {**row, "w": _said(turns[:at])} if at else row


def _said(turns: Turns) -> Said:
    each = max(SHORT, PROMPT // max(1, len(turns)))
    return [[visible(who, most=SHORT), _middle(said, each)] for who, said in turns]


def _middle(text: str, most: int) -> str:
    """Return a text that can be seen; of a long one the beginning and, at more length, the end."""
    if len(text) <= most:
        return visible(text, lines=True)
    head, tail = most // 3, most - most // 3
    left = len(text) - head - tail
    return f"{visible(text[:head], lines=True)} … ({left:,} characters) … {visible(text[-tail:], lines=True)}"
