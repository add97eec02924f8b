"""The contract of a measure: one item with its answers in, numbers out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.evaluation.engines.base import Response
from evomerge.evaluation.task import Direction


@dataclass(frozen=True)
class Answered:
    """One item with what the engine answered.

    Attributes:
        document: a copy of the task's document.
        responses: one per request of the item, in lm-eval's order: a text for `generate_until`; (log-probability in
            nats, is greedy) for each option of `multiple_choice`, and for `loglikelihood`; the log-probability for
            `loglikelihood_rolling`.
        options: the text whose probability each request asked for; empty for generated answers.
        n_tokens: how many tokens were generated for the answer; None where the engine did not say.
        count_tokens: returns the number of tokens of a text.
    """

    document: dict[str, Any]
    responses: Sequence[Response]
    options: Sequence[str]
    n_tokens: int | None
    count_tokens: Callable[[str], int]


@dataclass(frozen=True)
class Measure:
    """A function from an item's answers to numbers.

    Attributes:
        name: as in `TaskSpec.metric`; also the key of its number in `ItemScore.metrics`.
        direction: which values are better; None: the user must say.
        output_types: lm-eval's kinds of tasks on which it can be measured.
        function: returns the number, and notes under names that begin with an underscore.
    """

    name: str
    direction: Direction | None
    output_types: tuple[str, ...]
    function: Callable[[Answered], Mapping[str, float]]
