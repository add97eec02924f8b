"""What answers the requests of the tasks: the contract.

An engine gets the requests prepared (token ids, stop texts, order) and gives one response per request, so that another
inference library fits in without a change to the harness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from evomerge.evaluation.engines.encoding import Encoded
from evomerge.evaluation.engines.units import Share

Response: TypeAlias = str | tuple[float, bool] | float
"""Text of `generate_until`; (log-probability in nats, is greedy) of `loglikelihood`; log-probability of
`loglikelihood_rolling`."""

Answers: TypeAlias = list[dict[int, Response]]
"""All that a candidate answered, or a part of it, as plain data: for each call, in the order of the calls, the position
of the request to its response."""

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


class Engine(Protocol):
    """Answers requests with a live model.

    One engine serves one worker, one candidate after the other: the model's weights change between calls of `answer`
    (the object may stay the same), so nothing that was computed from them may be kept. An engine is not thread-safe.
    """

    def context_length(self, model: Any, tokenizer: Any) -> int:
        """Return the longest prompt with its answer, in tokens."""
        ...

    def prepare(self, call: Call) -> Any:
        """Do everything that needs no model, such as the order of the requests; done once for many candidates."""
        ...

    def answer(self, model: Any, tokenizer: Any, prepared: Any, should_stop: StopCheck | None) -> Sequence[Response]:
        """Return one response per request of the call that `prepared` was made from, in its order.

        Args:
            should_stop: asked before every forward pass (or as often as the engine can).

        Raises:
            Interrupted: if `should_stop` said so.
            EvaluationError: if the model's logits are not finite.
        """
        ...

    def release(self) -> None:
        """Let go of the last model."""
        ...


@runtime_checkable
class Divides(Protocol):
    """What an engine does besides whose answers do not depend on which process gives them."""

    def units(self, model: Any, prepared: Any, should_stop: StopCheck | None) -> int:
        """Return how many units a call is cut into; the same for the same requests and kind of model, everywhere."""
        ...

    def answer_some(
        self, model: Any, tokenizer: Any, prepared: Any, should_stop: StopCheck | None, share: Share, start: int
    ) -> dict[int, Response]:
        """Return the responses of the units that are in a share, by position in the call, as `answer` would.

        Args:
            share: which units; they are taken as the work goes on.
            start: number of the call's first unit, there.
        """
        ...
