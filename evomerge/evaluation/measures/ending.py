"""How an answer ended, and what it was given to read: cut answers, empty answers, cut prompts.

All three are 1 or 0 for an item. An answer is judged as the engine gives it: after the task's stop texts, before its
filters.
"""

from __future__ import annotations

from evomerge.evaluation.measures.base import Answered, Measure


def cut_answers(item: Answered) -> dict[str, float]:
    """Return whether the limit of tokens ended the answer, rather than an end token or a stop text.

    lm-eval's wrapper returns texts alone. Its answers count as cut if their text has as many tokens as the limit
    allows; one that was generated in more tokens than its text is encoded in, or whose thinking was taken away, is
    missed. Where the limit is not known, either, there is no value.
    """
    if item.cut is not None:
        return {"cut_answers": float(item.cut)}
    if item.limit is None:
        return {}
    return {"cut_answers": float(item.count_tokens(item.text) >= item.limit)}


def empty_answers(item: Answered) -> dict[str, float]:
    """Return whether the answer has nothing that can be seen: no characters, white space, control characters.

    Special tokens (an end token at once, padding) are not part of the text, so an answer of nothing else is empty.
    """
    text = item.text
    return {"empty_answers": float(not any(char.isprintable() and not char.isspace() for char in text))}


def cut_prompts(item: Answered) -> dict[str, float]:
    """Return whether the context of the model was too short for a prompt of the item, which lost its beginning.

    There is no value where lm-eval encodes the prompts itself, as it does for tasks that sample or use beams.
    """
    return {} if item.prompt_cut is None else {"cut_prompts": float(item.prompt_cut)}


CUT_ANSWERS = Measure("cut_answers", "minimize", ("generate_until",), cut_answers)
EMPTY_ANSWERS = Measure("empty_answers", "minimize", ("generate_until",), empty_answers)
CUT_PROMPTS = Measure("cut_prompts", "minimize", ("generate_until", "multiple_choice", "loglikelihood"), cut_prompts)
