"""Greedy answers: one forward pass per token over the rows that are still being written."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from evomerge.evaluation.engines.decoding import Decoding, Shaped
from evomerge.evaluation.engines.encoding import Completion
from evomerge.evaluation.engines.finite import require_finite
from evomerge.evaluation.engines.forward import Forward
from evomerge.evaluation.engines.rows import Prefix, Rows
from evomerge.evaluation.engines.stopping import Stops

LOOK_EVERY = {"cpu": 1, "other": 8}
"""After how many tokens the answers are inspected; on an accelerator each inspection waits for the device."""

LEAVE_SHARE = 1 / 16
"""The part of a batch that must be over before rows leave, since moving others costs about as much as a few rows."""


def generate(
    forward: Forward,
    requests: Sequence[Completion],
    stops: Sequence[Stops],
    decoding: Decoding,
    *,
    reserved: bool,
    prefix: Prefix | None = None,
) -> list[list[int]]:
    """Return the token ids of each answer, with the token that ends it.

    An answer ends with an end token, when `stops` says so, or after `max_new_tokens`; its row then leaves the batch
    with some others.

    Args:
        forward: calls the model.
        requests: the requests, longest prompt first.
        stops: the stop texts of each request.
        decoding: the tokens that end an answer, and whether something shapes the choice of the next one.
        reserved: whether the model can work with a `ReservedCache`.
        prefix: the common beginning of all prompts.

    Raises:
        EvaluationError: if logits are not finite.
        Interrupted: if it is time to stop.
    """
    look_every = LOOK_EVERY["cpu" if forward.device.type == "cpu" else "other"]
    rows = Rows(
        forward,
        [request.prompt for request in requests],
        [request.max_new_tokens for request in requests],
        reserved=reserved,
        prefix=prefix,
        spare=look_every - 1,
    )
    answers: list[list[int]] = [[] for _ in requests]
    alive = list(range(len(requests)))
    eos = decoding.eos
    shaped: list[Shaped | None] = [None] * len(requests)
    if decoding.shapes:
        shaped = [Shaped(forward.model, one.prompt, one.max_new_tokens, look_every) for one in requests]
    tokens, largest = _pick(rows.read(), shaped)
    unseen = [(tokens, largest)]
    over: set[int] = set()  # places of rows that have not left yet, although their answers have ended
    while True:
        if len(unseen) == look_every:
            require_finite(torch.stack([values for _, values in unseen]))
            steps = torch.stack([picked for picked, _ in unseen]).tolist()  # (steps, rows)
            unseen.clear()
            for place, row in enumerate(alive):
                if place not in over:
                    new = [step[place] for step in steps]
                    if _ended(answers[row], new, requests[row], stops[row], eos):
                        over.add(place)
                        shaped[place] = None
            if len(over) == len(alive):
                return answers
            if len(over) >= LEAVE_SHARE * len(alive):
                order = rows.drop(over)
                alive = [alive[place] for place in order]
                shaped = [shaped[place] for place in order]
                tokens = tokens[order]
                over.clear()
        tokens, largest = _pick(rows.step(tokens), shaped)
        unseen.append((tokens, largest))


def _pick(logits: Tensor, shaped: Sequence[Shaped | None]) -> tuple[Tensor, Tensor]:
    """Return the next tokens and the largest logits, `(rows,)` each; a NaN counts as the largest logit of its row."""
    tokens = logits.argmax(dim=-1)
    largest = logits.gather(1, tokens[:, None])[:, 0]
    if any(shaped):
        tokens = torch.stack([
            token if row is None else row.pick(scores)
            for row, token, scores in zip(shaped, tokens.unbind(), logits.unbind(), strict=True)
        ])  # fmt: skip
    return tokens, largest


def _ended(answer: list[int], new: list[int], request: Completion, stops: Stops, eos: Collection[int]) -> bool:
    """Append the new tokens up to the one that ends the answer; return whether there was one."""
    for token in new:
        answer.append(token)
        if token in eos or len(answer) == request.max_new_tokens or stops.ended(answer):
            return True
    return False
