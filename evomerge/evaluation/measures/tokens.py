"""The length of an answer: fewer tokens, shorter reasoning, cheaper use."""

from __future__ import annotations

from evomerge.evaluation.measures.base import Answered, Measure


def generated_tokens(item: Answered) -> dict[str, float]:
    """Return how many tokens the model generated for the answer, including those that ended it (end token, stop text).

    lm-eval's wrapper returns texts alone; for its answers the tokens of the text are counted.
    """
    count = item.count_tokens(str(item.responses[0])) if item.n_tokens is None else item.n_tokens
    return {"generated_tokens": float(count)}


GENERATED_TOKENS = Measure("generated_tokens", "minimize", ("generate_until",), generated_tokens)
