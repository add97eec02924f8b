"""Log-probabilities of continuations: the options of an item share one pass over its context.

Options are packed after their context into one row. An attention mask keeps them from seeing each other, and each one
starts at the position after the context:

    row        c0 c1 c2 | a0 a1 | b0 | d0 d1 d2        (the last token of an option is never read)
    positions   0  1  2    3  4    3    3  4  5
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evomerge.evaluation.engines.encoding import Likelihood
from evomerge.evaluation.engines.finite import require_finite
from evomerge.evaluation.engines.forward import Forward
from evomerge.evaluation.engines.kv_cache import ReservedCache
from evomerge.evaluation.engines.rows import Prefix, additive


@dataclass(frozen=True)
class Row:
    """A context with continuations.

    Attributes:
        context: token ids.
        options: (position of the request, token ids of the continuation); at least one.
    """

    context: tuple[int, ...]
    options: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def n_packed(self) -> int:
        """Number of tokens after the context."""
        return sum(len(tokens) - 1 for _, tokens in self.options)

    @property
    def length(self) -> int:
        """Number of tokens that are read."""
        return len(self.context) + self.n_packed


@dataclass(frozen=True)
class Answer:
    """The answer about a continuation.

    Attributes:
        log_probability: in nats.
        greedy: whether each of its tokens is the most probable one.
    """

    log_probability: float
    greedy: bool


def by_context(requests: Sequence[Likelihood]) -> list[Row]:
    """Put continuations of the same context into one row, unless together they are longer than the context.

    A longer row would cost more attention than the common context saves; an empty context may have thousands.
    """
    rows: list[Row] = []
    options: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
    for index, request in enumerate(requests):
        options.setdefault(request.context, []).append((index, request.continuation))
    for context, own in options.items():
        pending: list[tuple[int, tuple[int, ...]]] = []
        n_tokens, most = 0, max(len(context), 64)
        for index, tokens in own:
            if pending and n_tokens + len(tokens) - 1 > most:
                rows.append(Row(context, tuple(pending)))
                pending, n_tokens = [], 0
            pending.append((index, tokens))
            n_tokens += len(tokens) - 1
        rows.append(Row(context, tuple(pending)))
    return rows


def by_input(requests: Sequence[Likelihood]) -> list[Row]:
    """Put continuations that need the very same input into one row, such as options of one token each.

    The row's context is the whole input, whose last places predict the continuations.
    """
    options: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
    for index, request in enumerate(requests):
        read = request.context + request.continuation[:-1]
        options.setdefault(read, []).append((index, request.continuation))
    return [Row(read, tuple(own)) for read, own in options.items()]


def score_packed(forward: Forward, rows: Sequence[Row], prefix: Prefix | None = None) -> dict[int, Answer]:
    """Return the answers of `by_context` rows, by position of the request.

    Args:
        forward: calls the model.
        rows: the rows.
        prefix: the common beginning of all contexts.

    Raises:
        EvaluationError: if logits are not finite.
        Interrupted: if it is time to stop.
    """
    n_prefix = prefix.length if prefix else 0
    width = max(len(row.context) for row in rows)  # contexts end in this column
    columns = width + max(row.n_packed for row in rows)
    ids = torch.zeros(len(rows), columns, dtype=torch.long)
    positions = torch.zeros(len(rows), columns, dtype=torch.long)
    segment = torch.full((len(rows), columns), -1)  # 0: context, 1, 2, …: options, -1: nothing
    picks = _Picks()
    for r, row in enumerate(rows):
        n = len(row.context)
        pad = width - n
        ids[r, pad:width] = torch.tensor(row.context)
        positions[r, pad:width] = torch.arange(n)
        segment[r, pad + n_prefix : width] = 0
        segment[r, :n_prefix] = 0
        end = width
        for number, (index, tokens) in enumerate(row.options, 1):
            m = len(tokens) - 1
            ids[r, end : end + m] = torch.tensor(tokens[:-1], dtype=torch.long)
            positions[r, end : end + m] = torch.arange(n, n + m)
            segment[r, end : end + m] = number
            # The context's last place predicts the first token, and the option's own places predict the next ones.
            picks.add(index, r, [0, *range(end - width + 1, end - width + 1 + m)], tokens)
            end += m
    segment = segment.to(forward.device)
    asked, seen = segment[:, n_prefix:, None], segment[:, None, :]
    order = torch.arange(columns, device=forward.device)
    before = order[None, :] <= order[n_prefix:, None]
    itself = order[None, :] == order[n_prefix:, None]
    allowed = before & ((seen == 0) | ((seen == asked) & (seen > 0))) | itself  # (rows, tokens, columns)
    cache = None
    if prefix is not None:
        cache = ReservedCache(len(forward.cache_kinds), len(rows), columns)
        cache.copy_in(prefix.cache, 0, len(rows), 0)
        cache.open(0, len(rows), 0, n_prefix)
    logits = forward(
        ids[:, n_prefix:].to(forward.device),
        keep=columns - width + 1,
        mask=additive(allowed[:, None], forward.dtype),
        positions=positions[:, n_prefix:].to(forward.device),
        cache=cache,
    )
    return picks.read(logits)


def score_plain(forward: Forward, rows: Sequence[Row]) -> dict[int, Answer]:
    """Return the answers of `by_input` rows, padded on the right as in lm-eval, which any causal model can process.

    Raises:
        EvaluationError: if logits are not finite.
        Interrupted: if it is time to stop.
    """
    columns = max(len(row.context) for row in rows)
    first = min(len(row.context) - max(len(tokens) for _, tokens in row.options) for row in rows)
    ids = torch.zeros(len(rows), columns, dtype=torch.long)
    picks = _Picks()
    for r, row in enumerate(rows):
        n = len(row.context)
        ids[r, :n] = torch.tensor(row.context)
        for index, tokens in row.options:
            picks.add(index, r, range(n - len(tokens) - first, n - first), tokens)
    return picks.read(forward(ids.to(forward.device), keep=columns - first))


class _Picks:
    """The places in the logits that predict the tokens of continuations."""

    def __init__(self) -> None:
        self._requests: list[tuple[int, int]] = []  # position, number of tokens
        self._rows: list[int] = []
        self._places: list[int] = []
        self._targets: list[int] = []

    def add(self, index: int, row: int, places: Sequence[int], tokens: Sequence[int]) -> None:
        """Note that `places` of a row predict `tokens`."""
        self._requests.append((index, len(tokens)))
        self._rows += [row] * len(tokens)
        self._places += places
        self._targets += tokens

    def read(self, logits: Tensor) -> dict[int, Answer]:
        """Return the answers, looked up in `(rows, places, vocabulary)` logits."""
        device = logits.device
        rows = torch.tensor(self._rows, device=device)
        places = torch.tensor(self._places, device=device)
        targets = torch.tensor(self._targets, device=device)
        # In the model's own type, for the same rounding as in lm-eval.
        log_p = torch.log_softmax(logits, dim=-1)
        best = log_p.argmax(dim=-1)[rows, places]
        require_finite(log_p[rows, places, best])
        values = log_p[rows, places, targets].cpu()
        right = (best == targets).cpu()
        counts = [count for _, count in self._requests]
        return {
            index: Answer(float(own.sum()), bool(hits.all()))
            for (index, _), own, hits in zip(self._requests, values.split(counts), right.split(counts), strict=True)
        }
