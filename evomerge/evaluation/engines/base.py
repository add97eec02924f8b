"""The contract of an engine, which answers the requests of the tasks.

An engine gets prepared requests (token ids, stop texts, order) and returns one response for each, so that another
inference library needs no change to the harness.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from evomerge.evaluation.engines.encoding import Encoded
from evomerge.evaluation.engines.units import UnitRange

Response: TypeAlias = str | tuple[float, bool] | float
"""A text for `generate_until`; (log-probability in nats, is greedy) for `loglikelihood`; a log-probability for
`loglikelihood_rolling`."""

Answers: TypeAlias = list[dict[int, Response]]
"""A candidate's answers to all requests, or to those of some units, as plain data: for each call, in order, a request's
position to its response."""

StopCheck: TypeAlias = Callable[[], bool]


@dataclass(frozen=True, eq=False)
class Call:
    """All requests of one kind, over all tasks.

    Attributes:
        kind: lm-eval's request type: "generate_until", "loglikelihood" or "loglikelihood_rolling".
        instances: lm-eval's instances; `args` holds the request as text.
        tasks: the task of each request.
        encoded: each request as token ids; None where only lm-eval itself can answer.
        think_end: the text, or the id of the token, behind which answers begin; None: at their first token.
        chat: whether the requests were written by chat templates.
    """

    kind: str
    instances: tuple[Any, ...]
    tasks: tuple[str, ...]
    encoded: tuple[Encoded | None, ...]
    think_end: str | int | None = None
    chat: bool = False


@dataclass(frozen=True, eq=False)
class Division:
    """How a call is cut into units for one candidate.

    Attributes:
        n_units: how many units there are; the same for the same requests and kind of model, in every process.
        work: what the engine that made the division needs to answer them.
    """

    n_units: int
    work: Any


class Engine(ABC):
    """Answers requests with a live model.

    One engine serves one worker, one candidate after another. The model's weights change between calls of `answer` (the
    object may stay the same), so nothing that was computed from them may be kept. An engine is not thread-safe.

    By default a call is one unit. An engine whose answers do not depend on the process that gives them may cut a call
    into more units (`divide`, `answer_units`), so that several workers can answer one candidate.
    """

    @abstractmethod
    def context_length(self, model: Any, tokenizer: Any) -> int:
        """Return the longest prompt with its answer, in tokens."""

    @abstractmethod
    def prepare(self, call: Call) -> Any:
        """Return what can be found without a model, such as the order of the requests; used by many candidates."""

    @abstractmethod
    def answer(self, model: Any, tokenizer: Any, prepared: Any, should_stop: StopCheck | None) -> Sequence[Response]:
        """Return one response per request of the call that `prepared` was made from, in its order.

        Args:
            model: the live model.
            tokenizer: its tokenizer.
            prepared: what `prepare` returned.
            should_stop: called before every forward pass (or as often as the engine can).

        Raises:
            Interrupted: if `should_stop` returned True.
            EvaluationError: if the model's logits are not finite.
        """

    def divide(self, model: Any, prepared: Any, should_stop: StopCheck | None) -> Division:
        """Return a call cut into units; called once for each candidate, right before it is answered."""
        return Division(1, prepared)

    def answer_units(
        self,
        model: Any,
        tokenizer: Any,
        division: Division,
        should_stop: StopCheck | None,
        units: UnitRange,
        start: int,
    ) -> dict[int, Response]:
        """Return the responses that `answer` would return, for a call's units in a range.

        Args:
            model: the live model.
            tokenizer: its tokenizer.
            division: what `divide` returned for the call.
            should_stop: as for `answer`.
            units: the range of the candidate's units; they are taken as the work goes on.
            start: the number of the call's first unit among those of the candidate.

        Returns:
            Position of the request in the call to its response.
        """
        first, end = units.take(start, start + 1)
        return dict(enumerate(self.answer(model, tokenizer, division.work, should_stop))) if first < end else {}

    @abstractmethod
    def release(self) -> None:
        """Release the last model."""
