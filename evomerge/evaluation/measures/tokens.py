"""The length of an answer: fewer tokens, shorter reasoning, cheaper use."""

from __future__ import annotations

from evomerge.evaluation.measures.base import Answered, Measure


def generated_tokens(item: Answered) -> dict[str, float]:
    """Return how many tokens the answer's text has, without those that ended it (end token, stop text)."""
    return {"generated_tokens": float(item.count_tokens(str(item.responses[0])))}


GENERATED_TOKENS = Measure("generated_tokens", "minimize", ("generate_until",), generated_tokens)
