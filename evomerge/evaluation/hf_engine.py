"""The default engine: our own greedy decoding and scoring through a transformers model's forward pass.

What it leaves to lm-eval (see `LmEvalEngine`), it says once: requests that sample or use beams, models whose generation
config changes greedy decoding, and models whose caches are of another kind.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

import torch

from evomerge.evaluation.batching import Shared, TokenBudget, by_prefix
from evomerge.evaluation.encoding import Generation, Likelihood
from evomerge.evaluation.engines import Call, Response, StopCheck
from evomerge.evaluation.forward import Forward
from evomerge.evaluation.generation import generate
from evomerge.evaluation.likelihood import Answer, Row, by_context, by_input, score_packed, score_plain
from evomerge.evaluation.lm_eval_engine import LmEvalEngine
from evomerge.evaluation.rows import Prefix, Rows, read_prefix
from evomerge.evaluation.stopping import Stops
from evomerge.evaluation.support import Support, end_tokens, examine, generation_obstacle

log = logging.getLogger("evomerge.evaluation")
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A call, sorted out.

    Attributes:
        call: as it came.
        generations: position to request; those that lm-eval must answer are left out.
        shared: the generations (positions in the call) by the prefix that they share.
        windows: for each request for a log-probability, the positions of its parts in `parts`; empty: lm-eval.
        parts: contexts and continuations.
        packed: their rows by context, with the prefix that they share.
        plain: their rows by input.
    """

    call: Call
    generations: dict[int, Generation]
    shared: tuple[Shared, ...]
    windows: dict[int, tuple[int, ...]]
    parts: tuple[Likelihood, ...]
    packed: tuple[tuple[tuple[int, ...], tuple[Row, ...]], ...]
    plain: tuple[Row, ...]

    @property
    def gains_by_packing(self) -> bool:
        """Whether any context is shared; packing costs a mask."""
        return any(prefix or any(len(row.options) > 1 for row in rows) for prefix, rows in self.packed)


class HfEngine:
    """Answers requests with a live transformers model; see `Engine`."""

    def __init__(self, *, batch_size: int, max_length: int | None) -> None:
        self._lm_eval = LmEvalEngine(batch_size=batch_size, max_length=max_length)
        self._budget = TokenBudget(batch_size)
        self._support: dict[Hashable, Support] = {}
        self._stops: dict[tuple[int, tuple[str, ...]], tuple[Any, Stops]] = {}
        self._said: set[str] = set()

    def context_length(self, model: Any, tokenizer: Any) -> int:
        """Return the longest prompt with its answer: the one given, or what the model's config says."""
        return self._lm_eval.context_length(model, tokenizer)

    def prepare(self, call: Call) -> Prepared:
        """Sort the requests by length, find what they share."""
        generations = {i: one for i, one in enumerate(call.encoded) if isinstance(one, Generation)}
        order = list(generations)
        shared = by_prefix([generations[i].prompt for i in order], [call.tasks[i] for i in order])
        windows: dict[int, tuple[int, ...]] = {}
        parts: list[Likelihood] = []
        tasks: list[str] = []
        for i, one in enumerate(call.encoded):
            own = (one,) if isinstance(one, Likelihood) else one
            if isinstance(own, tuple):
                windows[i] = tuple(range(len(parts), len(parts) + len(own)))
                parts += own
                tasks += [call.tasks[i]] * len(own)
        packed = []
        rows = by_context(parts)
        for group in by_prefix([row.context for row in rows], [tasks[row.options[0][0]] for row in rows]):
            chosen = sorted((rows[i] for i in group.members), key=lambda row: -row.length)
            packed.append((group.prefix, tuple(chosen)))
        plain = tuple(sorted(by_input(parts), key=lambda row: (-len(row.context), row.context)))  # as lm-eval
        return Prepared(
            call,
            generations,
            tuple(Shared(one.prefix, tuple(order[i] for i in one.members)) for one in shared),
            windows,
            tuple(parts),
            tuple(packed),
            plain,
        )

    def answer(
        self, model: Any, tokenizer: Any, prepared: Prepared, should_stop: StopCheck | None
    ) -> Sequence[Response]:
        """Return one response per request; see `Engine`."""
        model.eval()
        forward = Forward(model, should_stop)
        forward.ask()
        with torch.no_grad():
            support = self._support_of(forward)
            own: dict[int, Response] = {}
            if prepared.generations and self._generates(model, support):
                own |= self._generate(forward, tokenizer, prepared, support)
            if prepared.windows:
                own |= self._score(forward, prepared, support)
        left = [i for i in range(len(prepared.call.instances)) if i not in own]
        if left:
            call = prepared.call
            if any(call.encoded[i] is None for i in left):
                self._say(
                    f"{len(left)} of {len(call.instances)} {call.kind} requests sample, use beams or cannot be "
                    "encoded: lm-eval answers them, more slowly"
                )
            rest = Call(call.kind, tuple(call.instances[i] for i in left), (), ())
            own |= zip(left, self._lm_eval.answer(model, tokenizer, rest, should_stop), strict=True)
        return [own[i] for i in range(len(own))]

    def release(self) -> None:
        """Let go of the last model."""
        self._lm_eval.release()

    def _support_of(self, forward: Forward) -> Support:
        key = forward.kind
        if key not in self._support:
            self._support[key] = examine(forward)
        return self._support[key]

    def _generates(self, model: Any, support: Support) -> bool:
        if support is Support.LM_EVAL:
            return False
        obstacle = generation_obstacle(model)
        if obstacle is not None:
            self._say(f"the model's generation config says {obstacle}: lm-eval generates, more slowly")
        return obstacle is None

    def _generate(self, forward: Forward, tokenizer: Any, prepared: Prepared, support: Support) -> dict[int, Response]:
        reserved = support is Support.RESERVED
        eos = end_tokens(forward.model)
        found: dict[int, Response] = {}
        for group in prepared.shared:
            prefix = read_prefix(forward, group.prefix) if group.prefix and reserved else None
            requests = [prepared.generations[i] for i in group.members]
            stops = [self._stops_of(tokenizer, request.until) for request in requests]
            first = requests[0]
            probe = partial(_read_alone, forward, first, reserved)
            run = partial(_generate_some, forward, requests, stops, eos, reserved, prefix)
            # Descending, although answers may differ in length: each is at least as long as those behind it.
            lengths = [len(request.prompt) + request.max_new_tokens for request in requests]
            lengths = list(accumulate(reversed(lengths), max))[::-1]
            for start, end, answers in self._batched("generate", lengths, forward, probe, run):
                for i, stop, answer in zip(group.members[start:end], stops[start:end], answers, strict=True):
                    found[i] = stop.text(answer)
        return found

    def _score(self, forward: Forward, prepared: Prepared, support: Support) -> dict[int, Response]:
        answers: dict[int, Answer] = {}
        if support is Support.RESERVED and prepared.gains_by_packing:
            for prefix_tokens, rows in prepared.packed:
                prefix = read_prefix(forward, prefix_tokens) if prefix_tokens else None
                run = partial(_score_some, partial(score_packed, forward, prefix=prefix), rows)
                for _, _, found in self._batched("packed", [r.length for r in rows], forward, partial(run, 0, 1), run):
                    answers |= found
        elif prepared.plain:
            run = partial(_score_some, partial(score_plain, forward), prepared.plain)
            lengths = [len(row.context) for row in prepared.plain]
            for _, _, found in self._batched("plain", lengths, forward, partial(run, 0, 1), run):
                answers |= found
        responses: dict[int, Response] = {}
        for i, parts in prepared.windows.items():
            if prepared.call.kind == "loglikelihood_rolling":
                responses[i] = sum(answers[part].log_probability for part in parts)
            else:
                responses[i] = (answers[parts[0]].log_probability, answers[parts[0]].greedy)
        return responses

    def _batched(
        self,
        work: str,
        lengths: Sequence[int],
        forward: Forward,
        probe: Callable[[], object],
        run: Callable[[int, int], T],
    ) -> list[tuple[int, int, T]]:
        """Run batches; one for which the memory does not suffice is run again in halves."""
        kind = (forward.kind, work)
        done: list[tuple[int, int, T]] = []
        waiting = list(self._budget.batches(kind, lengths, forward.device, probe))[::-1]
        while waiting:
            first, last = waiting.pop()
            try:
                done.append((first, last, run(first, last)))
                continue
            except RuntimeError as error:  # torch's own subclass on CUDA, a bare one on a CPU
                text = str(error).lower()
                if last - first == 1 or not ("out of memory" in text or "can't allocate memory" in text):
                    raise
            log.info("out of memory with %d rows: from now on half as many", last - first)
            self._budget.halve(kind)
            middle = (first + last) // 2
            waiting += [(middle, last), (first, middle)]
        return done

    def _stops_of(self, tokenizer: Any, until: tuple[str, ...]) -> Stops:
        key = (id(tokenizer), until)
        if key not in self._stops:
            self._stops[key] = (tokenizer, Stops(tokenizer, until))  # holds the tokenizer, so its id stays its own
        return self._stops[key][1]

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s (said once)", text)


def _read_alone(forward: Forward, request: Generation, reserved: bool) -> None:
    Rows(forward, [request.prompt], [request.max_new_tokens], reserved=reserved).read()


def _generate_some(
    forward: Forward,
    requests: Sequence[Generation],
    stops: Sequence[Stops],
    eos: frozenset[int],
    reserved: bool,
    prefix: Prefix | None,
    first: int,
    last: int,
) -> list[list[int]]:
    return generate(forward, requests[first:last], stops[first:last], eos, reserved=reserved, prefix=prefix)


def _score_some(
    score: Callable[[Sequence[Row]], dict[int, Answer]], rows: Sequence[Row], first: int, last: int
) -> dict[int, Answer]:
    return score(rows[first:last])
