"""Which tensors get which value, as a list of parts of names that is tried in order; found from the names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TypeVar

T = TypeVar("T", bound=Hashable)

_WELL_KNOWN = ("norm", "embed", "attn")
"""Parts of words that people write as filters."""


def shortest_parts(values: Mapping[str, T]) -> list[tuple[str | None, T]]:
    """Return parts of names with values, the last one with None, so that the first part in a name gives its value.

    Args:
        values: names to their values; at least one.

    Returns:
        As few entries as a greedy choice finds, and as short parts. Every name gets its value.
    """
    common = Counter(values.values()).most_common(1)[0][0]
    left = dict(values)
    found: list[tuple[str | None, T]] = []
    while any(value != common for value in left.values()):
        part = _best_part(left, common)
        value = next(value for name, value in left.items() if part in name)
        found.append((part, value))
        left = {name: value for name, value in left.items() if part not in name}
    return [*found, (None, common)]


def _best_part(left: Mapping[str, T], common: T) -> str:
    """Return the part that gives most names a value that all of them have, and that is not the common one.

    Where no part does, one of a single name is exempted first.
    """
    candidates = dict.fromkeys(part for name in left for part in _candidates(name))
    best: tuple[tuple[int, int, int], str] | None = None
    for part in candidates:
        held = {value for name, value in left.items() if part in name}
        if len(held) != 1:
            continue
        n = sum(part in name for name in left)
        rank = (int(held != {common}), n if held != {common} else -n, -len(part))
        if best is None or rank > best[0]:
            best = rank, part
    assert best is not None  # the longest of the whole names stands in no other one
    return best[1]


def _candidates(name: str) -> list[str]:
    words = name.split(".")
    spans = [words[i:j] for i in range(len(words)) for j in range(i + 1, len(words) + 1)]
    named = [".".join(span) for span in spans if not any(word.isdigit() for word in span)]
    known = [part for part in _WELL_KNOWN if part in name]
    pieces = [piece for word in words for piece in re.split(r"_", word) if len(piece) > 2 and "_" in word]
    return [*named, *known, *pieces, name]
