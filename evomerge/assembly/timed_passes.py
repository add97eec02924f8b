"""How long a candidate's forward passes take, from a few passes of a live model over made-up tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from evomerge.errors import ConfigError
from evomerge.evaluation.harness import LmHarness
from evomerge.record import Split

LOOKED_AT = 8
"""Items of each task whose requests say how much work a candidate is."""

MOST_STEPS = 64
"""Tokens of an answer that are reckoned with where a task allows more: how long answers are is not known yet."""

PASS_SECONDS = 0.03
"""About how long a pass may take with which time is measured; larger batches and prompts are cut down to that."""

STEPS = 2
"""Tokens that are written in one measurement; of a model whose passes take longer than `PASS_SECONDS`, it is one."""


@dataclass(frozen=True)
class Load:
    """The work that a candidate is.

    Attributes:
        requests: how many requests it answers.
        rows: how many of them share a pass.
        tokens: how many tokens of a request are read.
        steps: how many tokens an answer has; 0: log-probabilities of given texts are asked for.
    """

    requests: int
    rows: int
    tokens: int
    steps: int


def load_of(harness: LmHarness, model: Any, tokenizer: Any, *, items: int, batch_size: int) -> Load | None:
    """Return the work that a candidate is, judged by a few requests of each task.

    Args:
        harness: the tasks.
        model: the live model.
        tokenizer: its tokenizer.
        items: how many items a candidate answers.
        batch_size: most rows of a pass.

    Returns:
        None if it cannot be found: lm-eval answers everything, or the prompts cannot be built.
    """
    try:
        sizes = harness.request_sizes(model, tokenizer, LOOKED_AT)
    except ConfigError:  # whoever scores the first model will say so
        return None
    if not sizes:
        return None
    seen = sum(min(LOOKED_AT, len(chosen)) for chosen in harness.split_items(Split.SEARCH).values())
    requests = max(1, round(len(sizes) * items / max(1, seen)))
    return Load(
        requests=requests,
        rows=min(batch_size, requests),
        tokens=max(1, round(fmean(tokens for tokens, _ in sizes))),
        steps=min(MOST_STEPS, max(steps for _, steps in sizes)),
    )


class TimedPasses:
    """Times passes of a model that are like those of a candidate, but short enough to be repeated.

    Args:
        model: the live model, on a CPU.
        load: the work that a candidate is.
        like: passes of another model, whose sizes are taken, so that both can be compared.
        clock: seconds since some instant.
    """

    def __init__(
        self,
        model: Any,
        load: Load,
        *,
        like: TimedPasses | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model = model
        self._load = load
        self._clock = clock
        n = min(load.tokens, 16)
        self._read(1, n)  # the first pass of a process allocates
        self._slow = like is not None and like.is_slow
        self._tokens, self._rows, self._writing = self._sizes(n) if like is None else like.sizes

    @property
    def load(self) -> Load:
        """The work that a candidate is."""
        return self._load

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The tokens and the rows of a pass that reads, and the rows of one that writes."""
        return self._tokens, self._rows, self._writing

    @property
    def is_slow(self) -> bool:
        """Whether a pass of few tokens takes longer than a measurement should."""
        return self._slow

    def _sizes(self, n: int) -> tuple[int, int, int]:
        """Find sizes with which passes are short, from the time of a pass over n tokens."""
        load = self._load
        took = max(self._read(1, n), 1e-6)
        self._slow = took > PASS_SECONDS
        each = took / n  # seconds a token
        affordable = max(1, int(PASS_SECONDS / each))
        tokens = min(load.tokens, max(affordable, n))
        return tokens, max(1, min(load.rows, affordable // tokens)), min(load.rows, affordable)

    def seconds(self) -> float:
        """Return about how long all passes of a candidate would take now, in seconds."""
        load = self._load
        step = self._write(self._writing) if load.steps else 0.0
        read = self._read(self._rows, self._tokens)
        reads = load.requests * load.tokens / (self._rows * self._tokens)
        writes = load.requests * load.steps / self._writing
        return reads * read + writes * step

    def _read(self, rows: int, tokens: int) -> float:
        """Return the seconds of a pass that reads prompts."""
        return self._timed(rows, tokens, 0)

    def _write(self, rows: int) -> float:
        """Return the seconds of a pass that reads one further token in each row; a first pass wakes the threads."""
        steps = 1 if self._slow else STEPS
        return self._timed(rows, 1, steps) / steps

    def _timed(self, rows: int, tokens: int, steps: int) -> float:
        import torch

        from evomerge.evaluation.engines.forward import Forward
        from evomerge.evaluation.engines.rows import Rows

        self._model.eval()
        forward = Forward(self._model)
        prompt = tuple(i % 7 for i in range(tokens))  # any vocabulary has seven entries
        with torch.no_grad():
            batch = Rows(forward, [prompt] * rows, [steps + 1] * rows, reserved=False)
            began = self._clock()
            batch.read()
            if steps:
                began = self._clock()
                following = torch.zeros(rows, dtype=torch.long)
                for _ in range(steps):
                    batch.step(following)
        return self._clock() - began
