"""One forward pass of a causal language model, called with the arguments that its signature accepts."""

from __future__ import annotations

import inspect
from collections.abc import Hashable
from typing import Any

from torch import Tensor

from evomerge.errors import Interrupted
from evomerge.evaluation.engines.base import StopCheck
from evomerge.evaluation.engines.kv_cache import layer_kinds


class Forward:
    """Calls a model, and asks before each call whether to stop.

    Attributes:
        model: the live model.
        device: the device on which its input must be.
        dtype: the type of its weights, which attention masks must have.
        cache_kinds: the kind of each layer of its cache, by its present config.
    """

    def __init__(self, model: Any, should_stop: StopCheck | None = None) -> None:
        self.model = model
        self.device = model.device
        self.dtype = model.dtype
        self.cache_kinds = layer_kinds(model.config)
        self._should_stop = should_stop
        names = inspect.signature(model.forward).parameters
        self._keeps = "logits_to_keep" in names
        self._positions = "position_ids" in names
        self._cache_positions = "cache_position" in names

    def __call__(
        self,
        ids: Tensor,
        *,
        keep: int,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """Return the logits of the last positions.

        Args:
            ids: `(rows, tokens)` token ids.
            keep: the number of positions, from the end; if the model can, it computes the head for these only.
            mask: `(rows, tokens_so_far)`, 1 where there is a token; or `(rows, 1, tokens, tokens_so_far)` (or for all
                rows `(1, 1, tokens, tokens_so_far)`), added to attention scores; None: causal, without padding.
            positions: `(rows, tokens)`, if the model accepts them.
            cache: filled by the model; None: nothing is kept.

        Returns:
            `(rows, keep, vocabulary)` logits.

        Raises:
            Interrupted: if `should_stop` returned True.
        """
        self.ask()
        given: dict[str, Any] = {"input_ids": ids, "use_cache": cache is not None}
        if mask is not None:
            given["attention_mask"] = mask
        if cache is not None:
            given["past_key_values"] = cache
            if self._cache_positions:
                seen = cache.get_seq_length()
                given["cache_position"] = ids.new_tensor(range(seen, seen + ids.shape[1]))
        if positions is not None and self._positions:
            given["position_ids"] = positions
        if self._keeps:
            given["logits_to_keep"] = keep
        logits: Tensor = self.model(**given).logits
        return logits[:, -keep:]

    @property
    def kind(self) -> Hashable:
        """The properties that decide which calls are right for a model; the number of its layers does not matter."""
        attention = getattr(self.model.config, "_attn_implementation", None)
        return type(self.model), attention, frozenset(self.cache_kinds), self.dtype, self.device

    def ask(self) -> None:
        """Ask whether to stop.

        Raises:
            Interrupted: if `should_stop` returned True.
        """
        if self._should_stop is not None and self._should_stop():
            raise Interrupted("stopped while a candidate was being scored; its scores are dropped")
