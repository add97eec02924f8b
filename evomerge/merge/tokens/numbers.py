"""Numbers of tokens in a configuration and in generation settings, as another vocabulary has them."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Mapping
from typing import Any

_IDS = re.compile(r"_token_(ids?|index)$|^(begin_)?suppress_tokens$|^(bad|force)_words_ids$")
"""Keys whose values are numbers of tokens: one, a list of them, or lists in a list."""

VOCABULARY = "vocab_size"


class Renumbering:
    """How a model's numbers of tokens change.

    Attributes:
        lost: the keys that named a token which the new vocabulary does not have, with its old number.
    """

    def __init__(self, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """Take token to number, before and after."""
        self.lost: dict[str, int] = {}
        self._numbers = {number: after.get(token) for token, number in before.items()}

    def data(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """Return generation settings, or a part of a configuration, with new numbers."""
        return {key: self.value(key, value) for key, value in said.items()}

    def value(self, key: str, value: Any) -> Any:
        """Return a value with new numbers, if its key says that it holds any."""
        if key == "forced_decoder_ids" and isinstance(value, (list, tuple)):
            return [[place, self._new(key, number)] for place, number in value]
        return self._new(key, value) if _IDS.search(key) else value

    def _new(self, key: str, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            found = [(one, self._new(key, one)) for one in value]
            # A list of words that end or are forbidden: one that cannot be written any more is none.
            return [new for one, new in found if one is None or new is not None]
        if isinstance(value, bool) or not isinstance(value, int) or value not in self._numbers:
            return value  # -1 and the like stand for no token
        new = self._numbers[value]
        if new is None:
            self.lost[key] = value
        return new


def renumbered_config(config: Any, renumbering: Renumbering, n_rows: int) -> Any:
    """Return a copy of a transformers configuration for another vocabulary.

    Args:
        config: the configuration.
        renumbering: of its tokens.
        n_rows: how many rows embedding and head have.
    """
    changed = copy.deepcopy(config)
    text = changed.get_text_config(decoder=True)
    text.vocab_size = n_rows
    for part in {id(one): one for one in (changed, text)}.values():
        if part is not text and isinstance(getattr(part, VOCABULARY, None), int):
            part.vocab_size = n_rows
        for key, value in list(vars(part).items()):
            new = renumbering.value(key, value)
            if new != value:
                # A class may ask for a number where there is none any more; whoever takes this configuration is told.
                with contextlib.suppress(Exception):
                    setattr(part, key, new)
    return changed


def take_numbers(data: dict[str, Any], before: Any, after: Any) -> None:
    """Write into the text of config.json what a configuration says otherwise about tokens than the file.

    Args:
        data: the file's content, which is changed.
        before: the configuration that the file gives.
        after: the configuration that it should give.
    """
    rows = getattr(after, "attribute_map", {}).get(VOCABULARY, VOCABULARY)
    for key, value in vars(after).items():
        inner = data.get(key)
        if hasattr(value, "to_dict") and hasattr(value, "model_type"):
            if isinstance(inner, dict) and hasattr(before, key):
                take_numbers(inner, getattr(before, key), value)
        elif (key == rows or _IDS.search(key)) and value != getattr(before, key, None):
            data[VOCABULARY if key == rows and VOCABULARY in data else key] = value
