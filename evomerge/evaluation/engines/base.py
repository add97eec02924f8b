"""What answers the requests of the tasks: the contract.

An engine gets the requests prepared (token ids, stop texts, order) and gives one response per request, so that another
inference library fits in without a change to the harness.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from evomerge.evaluation.engines.encoding import Encoded
from evomerge.evaluation.engines.units import UnitRange

Response: TypeAlias = str | tuple[float, bool] | float
"""Text of `generate_until`; (log-probability in nats, is greedy) of `loglikelihood`; log-probability of
`loglikelihood_rolling`."""

Answers: TypeAlias = list[dict[int, Response]]
"""What a candidate answered, to all requests or to those of some units, as plain data: for each call, in the order of
the calls, the position of the request to its response."""

StopCheck: TypeAlias = Callable[[], bool]


@dataclass(frozen=True, eq=False)
class Call:
    """All requests of one kind, over all tasks.

    Attributes:
        kind: lm-eval's request type: "generate_until", "loglikelihood" or "loglikelihood_rolling".
        instances: lm-eval's instances; `args` holds the request as text.
        tasks: the task of each.
        encoded: each as token ids; None where only lm-eval itself knows what to do.
    """

    kind: str
    instances: tuple[Any, ...]
    tasks: tuple[str, ...]
    encoded: tuple[Encoded | None, ...]


@dataclass(frozen=True, eq=False)
class Division:
    """How a call is cut into units for one candidate.

    Attributes:
        n_units: how many there are; the same for the same requests and kind of model, in every process.
        work: what the engine that made it needs to answer them.
    """

    n_units: int
    work: Any


class Engine(ABC):
    """Answers requests with a live model.

    One engine serves one worker, one candidate after the other: the model's weights change between calls of `answer`
    (the object may stay the same), so nothing that was computed from them may be kept. An engine is not thread-safe.

    By default a call is one unit. An engine whose answers do not depend on which process gives them may cut it into
    more (`divide`, `answer_units`), so that several workers can answer one candidate.
    """

    @abstractmethod
    def context_length(self, model: Any, tokenizer: Any) -> int:
        """Return the longest prompt with its answer, in tokens."""

    @abstractmethod
    def prepare(self, call: Call) -> Any:
        """Do everything that needs no model, such as the order of the requests; done once for many candidates."""

    @abstractmethod
    def answer(self, model: Any, tokenizer: Any, prepared: Any, should_stop: StopCheck | None) -> Sequence[Response]:
        """Return one response per request of the call that `prepared` was made from, in its order.

        Args:
            should_stop: asked before every forward pass (or as often as the engine can).

        Raises:
            Interrupted: if `should_stop` said so.
            EvaluationError: if the model's logits are not finite.
        """

    def divide(self, model: Any, prepared: Any, should_stop: StopCheck | None) -> Division:
        """Cut a call into units; done once for each candidate, right before it is answered."""
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
        """Return the responses, as `answer` would, of those units of a call that are in a range.

        Args:
            division: what `divide` returned for the call.
            units: which units of the candidate; they are taken as the work goes on.
            start: number of the call's first unit among those of the candidate.

        Returns:
            Position of the request in the call to its response.
        """
        first, end = units.take(start, start + 1)
        return dict(enumerate(self.answer(model, tokenizer, division.work, should_stop))) if first < end else {}

    @abstractmethod
    def release(self) -> None:
        """Let go of the last model."""
