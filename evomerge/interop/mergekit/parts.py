"""Which tensors get which value, as a list of parts of names that is tried in order; found from the names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

T = TypeVar("T", bound=Hashable)

_WELL_KNOWN = ("norm", "embed", "attn")
"""Parts of words that people write as filters."""


def shortest_parts(
    values: Mapping[str, T], common: T | None = None, preferred: Collection[str] = ()
) -> list[tuple[str | None, T]]:
    """Return parts of names with values, the last one with None, so that the first part in a name gives its value.

    Args:
        values: names to their values; at least one.
        common: the value of the last entry; None: the one of most names.
        preferred: parts that are taken before others, in this order, where they can be.

    Returns:
        As few entries as a greedy choice finds, and short parts. Every name gets its value.
    """
    rest = Counter(values.values()).most_common(1)[0][0] if common is None else common
    left = dict(values)
    found: list[tuple[str | None, T]] = []
    while any(value != rest for value in left.values()):
        part = _best_part(left, rest, preferred)
        value = next(value for name, value in left.items() if part in name)
        found.append((part, value))
        left = {name: value for name, value in left.items() if part not in name}
    return [*found, (None, rest)]


def _best_part(left: Mapping[str, T], rest: T, preferred: Collection[str]) -> str:
    """Return the part that gives most names a value that all of them have, and that is not what the rest gets.

    Where no part does, one of a single name is exempted first.
    """
    candidates = dict.fromkeys([*preferred, *(part for name in left for part in _candidates(name))])
    best: tuple[tuple[bool, int, int, int], str] | None = None
    order = list(preferred)
    for part in candidates:
        held = {value for name, value in left.items() if part in name}
        if len(held) != 1:
            continue
        n = sum(part in name for name in left)
        wanted = held != {rest}
        liked = len(order) - order.index(part) if part in order else 0
        rank = (wanted, liked if wanted else 0, n if wanted else -n, -len(part))
        if best is None or rank > best[0]:
            best = rank, part
    assert best is not None  # the longest of the names stands in no other one
    return best[1]


def _candidates(name: str) -> list[str]:
    """Return parts of a name without the number of its layer, so that they hold for other layers, too."""
    words = name.split(".")
    number = next((i for i, word in enumerate(words) if word.isdigit()), None)
    spans = [range(i, j) for i in range(len(words)) for j in range(i + 1, len(words) + 1)]
    named = [".".join(words[i] for i in span) for span in spans if number not in span]
    known = [part for part in _WELL_KNOWN if part in name]
    pieces = [piece for word in words for piece in word.split("_") if len(piece) > 2 and "_" in word]
    return [part for part in (*named, *known, *pieces) if not part.isdigit()]
