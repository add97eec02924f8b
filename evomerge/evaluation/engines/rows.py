"""A batch of prompts that are read and continued together: its cache, masks and positions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from evomerge.evaluation.engines.batching import PASS_TOKENS, partition
from evomerge.evaluation.engines.forward import Forward
from evomerge.evaluation.engines.kv_cache import ReservedCache, left_alone, select_rows


@dataclass(frozen=True)
class Prefix:
    """A common beginning of many prompts, with its keys and values."""

    length: int
    cache: ReservedCache


def read_prefix(forward: Forward, tokens: tuple[int, ...]) -> Prefix:
    """Read a common beginning once, and return it with its keys and values."""
    cache = ReservedCache(len(forward.cache_kinds), 1, len(tokens))
    forward(torch.tensor([tokens], device=forward.device), keep=1, cache=cache)
    return Prefix(len(tokens), cache)


class Rows:
    """A batch of prompts on their way through the model; all end in the same column, so they are padded on the left.

    With a `ReservedCache`, prompts are read in groups of similar length, and a common prefix is copied in. Without one,
    all are read in one pass with a mask of two dimensions, from which the model makes its own.
    """

    def __init__(
        self,
        forward: Forward,
        prompts: Sequence[tuple[int, ...]],
        limits: Sequence[int],
        *,
        reserved: bool,
        prefix: Prefix | None = None,
        spare: int = 0,
    ) -> None:
        """Lay out the batch.

        Args:
            forward: calls the model.
            prompts: token ids, prefix included, longest first.
            limits: how many tokens may follow each prompt.
            reserved: whether to use a `ReservedCache`.
            prefix: the common beginning of all prompts.
            spare: how many more tokens may be read in a row that is already over.
        """
        self._forward = forward
        self._prompts = prompts
        self._n_prefix = prefix.length if prefix else 0
        self._prefix = prefix
        self._reserved = reserved
        self._width = self._end = len(prompts[0])
        room = max(limits) + spare
        self._cache: Cache
        if reserved:
            self._cache = ReservedCache(len(forward.cache_kinds), len(prompts), self._width + room)
            kind = "cpu" if forward.device.type == "cpu" else "other"
            self._groups = partition(tuple(map(len, prompts)), PASS_TOKENS[kind])
        else:
            self._cache = DynamicCache(config=forward.model.config)
            self._groups = ((0, len(prompts)),)
        valid = torch.zeros(len(prompts), self._width + room, dtype=torch.bool)
        valid[:, self._width :] = True
        for first, last in self._groups:
            start = self._width - len(prompts[first])
            valid[first:last, start : start + self._n_prefix] = True
            for row in range(first, last):
                valid[row, self._width - len(prompts[row]) + self._n_prefix :] = True
        self._padded = not bool(valid.all())
        self._valid = valid.to(forward.device)  # (rows, columns)
        self._lengths = torch.tensor([len(prompt) for prompt in prompts], device=forward.device)
        self._last = self._lengths + torch.tensor(limits, device=forward.device) - 1
        self._mask: Tensor | None = None

    def read(self) -> Tensor:
        """Read the prompts; return the logits of what follows, `(rows, vocabulary)`."""
        logits = torch.cat([self._read(first, last) for first, last in self._groups])
        if isinstance(self._cache, ReservedCache):
            self._cache.open(0, len(self._prompts), 0, self._width)
            if self._padded:
                self._mask = additive(self._valid[:, None, None, :], self._forward.dtype)
        elif self._padded:
            self._mask = self._valid.long()
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token per row, `(rows,)`; return the logits of what follows, `(rows, vocabulary)`."""
        self._end += 1
        mask = None if self._mask is None else self._mask[..., : self._end]
        # Rows that are over may go on for a few tokens, but not beyond the last position that the model has.
        positions = (self._lengths + (self._end - self._width - 1)).minimum(self._last)
        logits = self._forward(tokens[:, None], keep=1, mask=mask, positions=positions[:, None], cache=self._cache)
        return logits[:, -1]

    def drop(self, gone: Collection[int]) -> list[int]:
        """Remove rows; return the old places of the rows that stay, in their new order."""
        sources, targets, n_rows = left_alone(len(self._lengths), gone)
        order = list(range(n_rows))
        for source, target in zip(sources, targets, strict=True):
            order[target] = source
        index = torch.tensor(order, device=self._forward.device)
        if isinstance(self._cache, ReservedCache):
            device = self._forward.device
            self._cache.keep(torch.tensor(sources, device=device), torch.tensor(targets, device=device), n_rows)
        else:
            select_rows(self._cache, index)
        self._lengths, self._last = self._lengths[index], self._last[index]
        if self._mask is not None:
            self._mask = self._mask[index]
        return order

    def _read(self, first: int, last: int) -> Tensor:
        forward, n_prefix = self._forward, self._n_prefix
        length = len(self._prompts[first])
        start, n_tokens = self._width - length, length - n_prefix
        ids = torch.zeros(last - first, n_tokens, dtype=torch.long)
        pads = torch.zeros(last - first, 1, dtype=torch.long)
        for row, prompt in enumerate(self._prompts[first:last]):
            pads[row] = length - len(prompt)
            ids[row, length - len(prompt) :] = torch.tensor(prompt[n_prefix:])
        positions = (torch.arange(n_prefix, length) - pads).clamp(min=0).to(forward.device)
        padded = bool(pads.any())
        mask: Tensor | None = None
        if isinstance(self._cache, ReservedCache):
            if self._prefix is not None:
                self._cache.copy_in(self._prefix.cache, first, last, start)
            self._cache.open(first, last, start, start + n_prefix)
            if padded or n_prefix:
                seen = torch.ones(n_tokens, length, dtype=torch.bool, device=forward.device).tril(n_prefix)
                if padded:
                    valid = self._valid[first:last, None, None, start : self._width]
                    # A padded place sees itself, since a softmax over nothing is NaN.
                    itself = torch.ones_like(seen).triu(n_prefix) & seen
                    seen = seen & valid | itself
                mask = additive(seen.view(-1, 1, n_tokens, length), forward.dtype)
        elif padded:
            mask = self._valid[first:last, : self._width].long()
        logits = forward(ids.to(forward.device), keep=1, mask=mask, positions=positions, cache=self._cache)
        if start and isinstance(self._cache, ReservedCache):
            self._cache.clear(first, last, start)
        return logits[:, -1]


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask to add to attention scores: 0 where a token is seen, the smallest number elsewhere."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)
