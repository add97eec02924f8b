"""A key-value cache with room for a whole batch, written in place: no concatenation per token, rows leave cheaply.

transformers' `DynamicCache` copies all keys and values at every token. Here each layer holds one
`(rows, heads, columns, head_dim)` tensor. The model sees a *window* of it, some rows from some column on, as its cache.
So prompts of different lengths can be read in groups and decoded together, all ending in the same column.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer


class ReservedLayer(DynamicLayer):
    """Keys and values of one layer; the memory is taken at the first write."""

    is_croppable = False

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self._size = (rows, columns)
        self._all: tuple[Tensor, Tensor] | None = None
        self._rows = slice(0, rows)
        self._start = self._end = 0

    def open(self, first: int, last: int, start: int, end: int) -> None:
        """Set the window to rows [first, last) and columns [start, end), all of which are written."""
        self._rows, self._start, self._end = slice(first, last), start, end

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write `(rows, heads, tokens, head_dim)` states after the window's last column; return the grown window."""
        end = self._end + key_states.shape[-2]
        all_keys, all_values = self._reserve(key_states, value_states)
        all_keys[self._rows, :, self._end : end] = key_states
        all_values[self._rows, :, self._end : end] = value_states
        self._end = end
        self.keys = all_keys[self._rows, :, self._start : end]
        self.values = all_values[self._rows, :, self._start : end]
        return self.keys, self.values

    def copy_in(self, prefix: ReservedLayer, first: int, last: int, start: int) -> None:
        """Copy another layer's window, of one row, into rows [first, last) from column `start` on."""
        keys, values = prefix.keys, prefix.values
        all_keys, all_values = self._reserve(keys, values)
        all_keys[first:last, :, start : start + keys.shape[-2]] = keys
        all_values[first:last, :, start : start + values.shape[-2]] = values

    def clear(self, first: int, last: int, end: int) -> None:
        """Write zeros into columns [0, end) of rows [first, last), which no token will fill.

        They are masked, but unwritten memory may hold NaN, and NaN times 0 is NaN.
        """
        for one in self._all or ():
            one[first:last, :, :end] = 0

    def keep(self, sources: Tensor, targets: Tensor, n_rows: int) -> None:
        """Copy rows `sources` over rows `targets`, and forget all but the first `n_rows`."""
        if self._all is not None and len(sources):
            sources, targets = sources.to(self.device), targets.to(self.device)
            for one in self._all:
                written = one[:, :, : self._end]
                written.index_copy_(0, targets, written.index_select(0, sources))
        self._rows = slice(0, n_rows)

    def get_seq_length(self) -> int:
        """Return the number of columns in the window."""
        return self._end - self._start

    def _reserve(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if self._all is None:
            rows, columns = self._size
            self._all = (
                keys.new_empty(rows, keys.shape[1], columns, keys.shape[3]),
                values.new_empty(rows, values.shape[1], columns, values.shape[3]),
            )
            self.dtype, self.device = keys.dtype, keys.device
            self.is_initialized = True
        return self._all


class ReservedCache(Cache):
    """A cache with a `ReservedLayer` for each layer of the model."""

    def __init__(self, n_layers: int, rows: int, columns: int) -> None:
        super().__init__(layers=[ReservedLayer(rows, columns) for _ in range(n_layers)])

    def open(self, first: int, last: int, start: int, end: int) -> None:
        """Set the window of every layer; see `ReservedLayer.open`."""
        for layer in self.layers:
            layer.open(first, last, start, end)

    def copy_in(self, prefix: ReservedCache, first: int, last: int, start: int) -> None:
        """Copy a prefix into rows [first, last) from column `start` on."""
        for mine, theirs in zip(self.layers, prefix.layers, strict=True):
            mine.copy_in(theirs, first, last, start)

    def clear(self, first: int, last: int, end: int) -> None:
        """Write zeros into columns [0, end) of some rows; see `ReservedLayer.clear`."""
        for layer in self.layers:
            layer.clear(first, last, end)

    def keep(self, sources: Tensor, targets: Tensor, n_rows: int) -> None:
        """Move rows into freed places; see `ReservedLayer.keep`."""
        for layer in self.layers:
            layer.keep(sources, targets, n_rows)


def select_rows(cache: Cache, rows: Tensor) -> None:
    """Keep some rows of transformers' own cache, in the given order; its layers may lie on several devices."""
    for layer in cache.layers:
        layer.batch_select_indices(rows if layer.keys is None else rows.to(layer.keys.device))


def layer_kinds(config: Any) -> tuple[type, ...]:
    """Return the kind of each layer of the cache that transformers makes for a config."""
    return tuple(type(layer) for layer in DynamicCache(config=config).layers)


def all_full(kinds: Collection[type]) -> bool:
    """Return whether every layer attends to all tokens, so that a `ReservedCache` can be used."""
    return set(kinds) == {DynamicLayer}


def all_attention(kinds: Collection[type]) -> bool:
    """Return whether every layer keeps keys and values of all tokens or of a window of them (no recurrent state)."""
    return bool(kinds) and set(kinds) <= {DynamicLayer, DynamicSlidingWindowLayer}


def left_alone(n_rows: int, gone: Collection[int]) -> tuple[list[int], list[int], int]:
    """Return which rows move where when some rows leave, so that the others are the first ones.

    Returns:
        Sources, targets, and the number of rows that stay. No more rows move than leave.
    """
    leaving = set(gone)
    kept = n_rows - len(leaving)
    sources = [row for row in range(kept, n_rows) if row not in leaving]
    targets = [row for row in range(kept) if row in leaving]
    return sources, targets, kept
