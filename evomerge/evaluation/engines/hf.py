"""The default engine: our own greedy decoding and scoring through a transformers model's forward pass.

It follows what a model's generation config makes of greedy decoding (see `decoding`). It leaves to lm-eval (see
`LmEvalEngine`), with a warning, requests that sample or use beams, models whose generation config does, and models with
caches of another kind.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import torch

from evomerge.evaluation.engines.base import Call, Division, Engine, Response, StopCheck
from evomerge.evaluation.engines.batching import Shared, TokenBudget, by_prefix
from evomerge.evaluation.engines.decoding import Decoding, decoding
from evomerge.evaluation.engines.encoding import Completion, Likelihood
from evomerge.evaluation.engines.forward import Forward
from evomerge.evaluation.engines.generation import generate
from evomerge.evaluation.engines.images import shows_images
from evomerge.evaluation.engines.likelihood import Answer, Row, by_context, by_input, score_packed, score_plain
from evomerge.evaluation.engines.lm_eval import LmEvalEngine
from evomerge.evaluation.engines.rows import Rows, read_prefix
from evomerge.evaluation.engines.stopping import Stops
from evomerge.evaluation.engines.support import Support, examine
from evomerge.evaluation.engines.units import UnitRange
from evomerge.system.faults import is_out_of_memory

log = logging.getLogger("evomerge.evaluation")


@dataclass(frozen=True, eq=False)
class SortedCall:
    """A prepared call.

    Attributes:
        call: the call itself.
        generations: position to request, without those that lm-eval must answer.
        shared: the generations (as positions in the call) by their common prefix.
        windows: for each request for a log-probability, the positions of its parts in `parts`; empty: lm-eval answers.
        parts: contexts and continuations.
        packed: the rows of the parts by context, with their common prefix.
        plain: the rows of the parts by input.
    """

    call: Call
    generations: dict[int, Completion]
    shared: tuple[Shared, ...]
    windows: dict[int, tuple[int, ...]]
    parts: tuple[Likelihood, ...]
    packed: tuple[tuple[tuple[int, ...], tuple[Row, ...]], ...]
    plain: tuple[Row, ...]

    @property
    def gains_by_packing(self) -> bool:
        """Whether several parts share a context, so that packing, which needs a mask, saves work."""
        return any(prefix or any(len(row.options) > 1 for row in rows) for prefix, rows in self.packed)


class HfEngine(Engine):
    """Answers requests by our own greedy decoding and scoring with a live transformers model."""

    def __init__(self, *, batch_size: int, max_length: int | None, sharers: int = 1, halvings: int = 0) -> None:
        self._lm_eval = LmEvalEngine(batch_size=batch_size, max_length=max_length, halvings=halvings)
        self._budget = TokenBudget(max(1, batch_size >> halvings), sharers)
        self._unit = batch_size  # the same for all workers, whatever memory each has
        self._support: dict[Hashable, Support] = {}
        self._stops: dict[tuple[Hashable, ...], tuple[Any, Stops]] = {}
        self._decodings: dict[str, Decoding] = {}
        self._said: set[str] = set()

    def context_length(self, model: Any, tokenizer: Any) -> int:
        """Return the longest prompt with its answer: the one given, or what the model's config says."""
        return self._lm_eval.context_length(model, tokenizer)

    def prepare(self, call: Call) -> SortedCall:
        """Sort the requests by length, and find their common beginnings."""
        generations = {i: one for i, one in enumerate(call.encoded) if isinstance(one, Completion)}
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
        return SortedCall(
            call,
            generations,
            tuple(Shared(one.prefix, tuple(order[i] for i in one.members)) for one in shared),
            windows,
            tuple(parts),
            tuple(packed),
            plain,
        )

    def answer(
        self, model: Any, tokenizer: Any, prepared: SortedCall, should_stop: StopCheck | None
    ) -> Sequence[Response]:
        """Return one response per request; see `Engine`."""
        division = self.divide(model, prepared, should_stop)
        units = UnitRange()
        units.open(division.n_units)
        own = self.answer_units(model, tokenizer, division, should_stop, units, 0)
        return [own[i] for i in range(len(own))]

    def divide(self, model: Any, prepared: SortedCall, should_stop: StopCheck | None) -> Division:
        """Cut a call into its batches, and a last unit for lm-eval if requests are left to it; see `Engine`."""
        model.eval()
        with torch.no_grad():
            forward = Forward(model, should_stop)
            layout = self._lay_out(forward, prepared, self._support_of(forward))
        return Division(sum(work.n_units for work in layout.works) + bool(layout.left), layout)

    def answer_units(
        self,
        model: Any,
        tokenizer: Any,
        division: Division,
        should_stop: StopCheck | None,
        units: UnitRange,
        start: int,
    ) -> dict[int, Response]:
        """Return the responses of the units in a range; see `Engine`."""
        model.eval()
        layout: _Layout = division.work
        forward, call, left = Forward(model, should_stop), layout.prepared.call, layout.left
        forward.ask()
        texts: dict[int, Response] = {}
        answers: dict[int, Answer] = {}
        with torch.no_grad():
            for work in layout.works:
                if units.overlaps(start, start + work.n_units):
                    run = work.begin(forward, tokenizer, self)
                    for found in self._batched(work, forward, run, units, start):
                        if isinstance(work, _Writing):
                            texts |= found
                        else:
                            answers |= found
                start += work.n_units
        own = texts | _responses(layout.prepared, answers)
        first, end = units.take(start, start + bool(left))
        if first < end:
            if any(call.encoded[i] is None and not shows_images(call.instances[i].args) for i in left):
                self._say(
                    f"{len(left)} of {len(call.instances)} {call.kind} requests sample, use beams or cannot be "
                    "encoded: lm-eval answers them, more slowly"
                )
            rest = Call(call.kind, tuple(call.instances[i] for i in left), (), (), call.think_end, call.chat)
            own |= zip(left, self._lm_eval.answer(model, tokenizer, rest, should_stop), strict=True)
        return own

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
        obstacle = self.decoding_of(model).obstacle
        if obstacle is not None:
            self._say(f"the model's generation config asks for {obstacle}: lm-eval generates, more slowly")
        return obstacle is None

    def _lay_out(self, forward: Forward, prepared: SortedCall, support: Support) -> _Layout:
        """Return what is to be run for a candidate."""
        works: list[_Writing | _Reading] = []
        writes = bool(prepared.generations) and self._generates(forward.model, support)
        if writes:
            reserved = support is Support.RESERVED
            works += [
                _Writing(group, [prepared.generations[i] for i in group.members], reserved, self._unit)
                for group in prepared.shared
            ]
        if prepared.windows:
            # One worker answers all windows of a document, since it sums them.
            unit = None if prepared.call.kind == "loglikelihood_rolling" else self._unit
            if support is Support.RESERVED and prepared.gains_by_packing:
                works += [_Reading("packed", prefix, rows, unit) for prefix, rows in prepared.packed]
            elif prepared.plain:
                works.append(_Reading("plain", (), prepared.plain, unit))
        own = prepared.windows.keys() | (prepared.generations.keys() if writes else set())
        return _Layout(prepared, works, [i for i in range(len(prepared.call.instances)) if i not in own])

    def _batched(
        self,
        work: _Writing | _Reading,
        forward: Forward,
        run: Callable[[int, int], dict[int, Any]],
        units: UnitRange,
        start: int,
    ) -> Iterator[dict[int, Any]]:
        """Run batches of the rows whose units are in a range; where memory runs out, run them again in halves."""
        kind = (forward.kind, work.name)
        waiting = list(self._budget.batches(kind, work.lengths, forward.device, partial(work.probe, forward, run)))[
            ::-1
        ]
        while waiting:
            first, last = work.take(waiting.pop(), units, start)
            if first == last:
                continue
            try:
                yield run(first, last)
                continue
            except RuntimeError as error:
                if last - first == 1 or not is_out_of_memory(error):
                    raise
            log.info("out of memory with %d rows: from now on half as many", last - first)
            self._budget.halve(kind)
            middle = (first + last) // 2
            waiting += [(middle, last), (first, middle)]

    def decoding_of(self, model: Any) -> Decoding:
        """Return how a model's answers are decoded; transformers is asked once for each generation config."""
        own = getattr(model, "generation_config", None)
        key = f"{type(model)} {None if own is None else own.to_dict()}"
        if key not in self._decodings:
            self._decodings[key] = decoding(model)
        return self._decodings[key]

    def stops_of(self, tokenizer: Any, request: Completion) -> Stops:
        """Return the stops of a request; the same object for the same texts."""
        key = (id(tokenizer), request.until, request.think_end)
        if key not in self._stops:  # the entry holds the tokenizer, so its id stays its own
            self._stops[key] = (tokenizer, Stops(tokenizer, request.until, request.think_end))
        return self._stops[key][1]

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s (said once)", text)


@dataclass(frozen=True, eq=False)
class _Layout:
    """What is to be run for a candidate.

    Attributes:
        works: the works, in order.
        left: positions of the requests that lm-eval answers, as the last unit.
    """

    prepared: SortedCall
    works: Sequence[_Writing | _Reading]
    left: Sequence[int]


class _Rows:
    """Rows that are read in batches, the longest first.

    Attributes:
        name: the kind of work.
        lengths: `(n_rows,)`, the length of each row with its answer, in tokens; descending.
        unit: how many rows a unit has; None: all rows are one unit.
    """

    def __init__(self, name: str, lengths: Sequence[int], unit: int | None) -> None:
        self.name = name
        self.lengths = lengths
        self.unit = unit or len(lengths)

    @property
    def n_units(self) -> int:
        """How many units the rows are cut into."""
        return -(-len(self.lengths) // self.unit)

    def take(self, batch: tuple[int, int], units: UnitRange, start: int) -> tuple[int, int]:
        """Take the rows of a batch whose units are in a range; return the first row, and their end (exclusive).

        Args:
            batch: the first row of the batch, and its end (exclusive).
            units: the range.
            start: the number of the first row's unit.
        """
        first, last = batch
        taken = units.take(start + first // self.unit, start + (last - 1) // self.unit + 1)
        begin, end = ((unit - start) * self.unit for unit in taken)
        return max(first, begin), max(first, begin, min(last, end))


class _Writing(_Rows):
    """Prompts to be continued."""

    def __init__(self, group: Shared, requests: Sequence[Completion], reserved: bool, unit: int) -> None:
        # Made descending, although answers may differ in length: each counts as long as the longest one after it.
        lengths = [len(request.prompt) + request.max_new_tokens for request in requests]
        super().__init__("generate", list(accumulate(reversed(lengths), max))[::-1], unit)
        self._group, self._requests, self._reserved = group, requests, reserved

    def begin(self, forward: Forward, tokenizer: Any, engine: HfEngine) -> Callable[[int, int], dict[int, Any]]:
        """Read the common beginning of all prompts; return a function that continues some of them."""
        prefix = read_prefix(forward, self._group.prefix) if self._group.prefix and self._reserved else None
        stops = [engine.stops_of(tokenizer, request) for request in self._requests]
        how = engine.decoding_of(forward.model)

        def run(first: int, last: int) -> dict[int, Any]:
            requests, own = self._requests[first:last], stops[first:last]
            answers = generate(forward, requests, own, how, reserved=self._reserved, prefix=prefix)
            members = self._group.members[first:last]
            return {
                i: stop.text(answer, limit=request.max_new_tokens, eos=how.eos)
                for i, stop, answer, request in zip(members, own, answers, requests, strict=True)
            }

        return run

    def probe(self, forward: Forward, run: object) -> None:
        """Read the first prompt alone, prefix and all."""
        request = self._requests[0]
        Rows(forward, [request.prompt], [request.max_new_tokens], reserved=self._reserved).read()


class _Reading(_Rows):
    """Continuations whose log-probabilities are looked up."""

    def __init__(self, name: str, prefix: tuple[int, ...], rows: Sequence[Row], unit: int | None) -> None:
        packed = name == "packed"
        super().__init__(name, [row.length if packed else len(row.context) for row in rows], unit)
        self._prefix, self._rows = prefix, rows

    def begin(self, forward: Forward, tokenizer: Any, engine: HfEngine) -> Callable[[int, int], dict[int, Any]]:
        """Read the common beginning of all rows; return a function that looks up some of them."""
        if self.name == "plain":
            return lambda first, last: score_plain(forward, self._rows[first:last])
        prefix = read_prefix(forward, self._prefix) if self._prefix else None
        return lambda first, last: score_packed(forward, self._rows[first:last], prefix)

    def probe(self, forward: Forward, run: Callable[[int, int], object]) -> None:
        """Look up the first row alone."""
        run(0, 1)


def _responses(prepared: SortedCall, answers: dict[int, Answer]) -> dict[int, Response]:
    """Return the responses to those requests for log-probabilities whose parts were all answered."""
    responses: dict[int, Response] = {}
    for i, parts in prepared.windows.items():
        if not all(part in answers for part in parts):
            continue
        if prepared.call.kind == "loglikelihood_rolling":
            responses[i] = sum(answers[part].log_probability for part in parts)
        else:
            responses[i] = (answers[parts[0]].log_probability, answers[parts[0]].greedy)
    return responses
