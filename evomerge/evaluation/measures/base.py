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
        copy_document: returns a copy of the task's document.
        responses: one per request of the item, in lm-eval's order: a text for `generate_until`; (log-probability in
            nats, is greedy) for each option of `multiple_choice`, and for `loglikelihood`; the log-probability for
            `loglikelihood_rolling`.
        options: the text whose probability each request asked for; empty for generated answers.
        n_tokens: how many tokens were generated for the answer; None where the engine did not say.
        count_tokens: returns the number of tokens of a text.
        cut: whether the limit of tokens ended the answer; None where the engine did not say.
        limit: the most tokens that the answer could have; None where it is not known, or nothing is generated.
        prompt_cut: whether a prompt lost its beginning, since it is longer than the context; None: not known.
    """

    copy_document: Callable[[], dict[str, Any]]
    responses: Sequence[Response]
    options: Sequence[str]
    n_tokens: int | None
    count_tokens: Callable[[str], int]
    cut: bool | None = None
    limit: int | None = None
    prompt_cut: bool | None = None

    @property
    def document(self) -> dict[str, Any]:
        """A copy of the task's document, made when it is asked for."""
        return self.copy_document()

    @property
    def text(self) -> str:
        """The answer to a `generate_until` item."""
        return str(self.responses[0])


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
