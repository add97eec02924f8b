"""Values of mergekit's parameters: a number, a gradient over the layers, or choices by parts of tensors' names.

A gradient of n anchors is linear between them, with anchor k at t = k / (n − 1). A layer lies at t = i / (L − 1) in its
slice of L layers, and in a slice of one layer at t = 1. What stands before the layers lies at t = 0, what stands behind
them at t = 1 (mergekit has t = 0 there, too).

Choices are tried in their order, level by level: those of an input, its slice, its module, the whole merge. The first
one whose part stands in the tensor's name counts; where none of a level does, the next level is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Conditional:
    """A value (one number, or the anchors of a gradient) for tensors whose name holds `part`; None: for all."""

    part: str | None
    anchors: tuple[float, ...]
    place: str = ""

    def at(self, t: float) -> float:
        """Return the value at a depth from 0 to 1."""
        if len(self.anchors) == 1:
            return self.anchors[0]
        where = t * (len(self.anchors) - 1)
        k = min(int(where), len(self.anchors) - 2)
        share = where - k
        return (1.0 - share) * self.anchors[k] + share * self.anchors[k + 1]


Setting: TypeAlias = tuple[Conditional, ...]
"""The value of a parameter at one level."""

Decision: TypeAlias = tuple[tuple[str | None, float | None], ...]
"""Parts of names to values, in the order in which they are tried; the last part is None and takes what is left. Its
value is None where nothing is given."""


def depth(index: int, length: int) -> float:
    """Return t of a layer by its index in its slice."""
    return 1.0 if length == 1 else index / (length - 1)


def decide(name: str, levels: Iterable[Mapping[str, Setting]], t: float, default: float | None) -> Decision:
    """Return how a parameter's value follows from the names of tensors, at one depth."""
    found: dict[str | None, float | None] = {}
    for level in levels:
        for choice in level.get(name, ()):
            found.setdefault(choice.part, choice.at(t))
            if choice.part is None:
                return _short(found)
    found[None] = default
    return _short(found)


def value_of(decision: Decision, tensor: str) -> float | None:
    """Return the value for a tensor of a name."""
    return next(value for part, value in decision if part is None or part in tensor)


def _short(found: Mapping[str | None, float | None]) -> Decision:
    """Leave out what changes nothing: parts at the end that have the value of all others."""
    rows = list(found.items())
    while len(rows) > 1 and rows[-2][1] == rows[-1][1]:
        del rows[-2]
    return tuple(rows)


def parts_of(decisions: Sequence[Decision]) -> list[list[str]]:
    """Return the different lists of parts of some decisions, without those that try none."""
    lists = [[part for part, _ in decision if part is not None] for decision in decisions]
    return [list(one) for one in dict.fromkeys(tuple(one) for one in lists if one)]
