"""Why candidates failed: errors that say the same, but for numbers, are one reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from evomerge.record import Record, State

SCORED, REPEATED, INVALID, FAILED = "scored", "repeated a recipe", "could not be built", "failed"
"""What can become of a candidate: it was scored, took over the result of an earlier one, or has none."""

_NUMBER = re.compile(r"0x[0-9a-f]+|\d+(?:[.,]\d+)*(?:e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Reason:
    """Why candidates have no result.

    Attributes:
        outcome: `INVALID` or `FAILED`.
        text: what the first of them says.
        numbers: the candidates, ascending.
    """

    outcome: str
    text: str
    numbers: tuple[int, ...]


def outcome(record: Record) -> str:
    """Return what became of a candidate."""
    if record.state == State.INVALID:
        return INVALID
    if record.state == State.FAILED:
        return FAILED
    return SCORED if record.same_as is None else REPEATED


def reasons(records: Sequence[Record]) -> list[Reason]:
    """Return why candidates have no result, the commonest reason first, then the earliest.

    Args:
        records: candidates in order of number.
    """
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        kind = outcome(record)
        if kind in (INVALID, FAILED):
            found.setdefault((kind, _NUMBER.sub("#", record.error or "")), []).append(record)
    made = [
        Reason(kind, own[0].error or "no reason was recorded", tuple(record.number for record in own))
        for (kind, _), own in found.items()
    ]
    return sorted(made, key=lambda one: (-len(one.numbers), one.numbers))
