"""From a verdict of the scoring to a record, and from records that failed to the reasons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from evomerge.fitness.scoring import Verdict
from evomerge.record import Record, Split, State
from evomerge.system.text import cut

SHOWN, LENGTH = 3, 500
"""How many reasons of failures are shown, and most characters of each."""


def decided(record: Record, verdict: Verdict, weights: Sequence[float]) -> Record:
    """Return a candidate's record with its result.

    Args:
        weights: `(n_objectives,)`, for the one number by which records are ordered.
    """
    if verdict.result is None or verdict.score is None:
        if record.state != State.RUNNING:  # it could not be built or scored, and has its error already
            return record
        return replace(record, state=State.FAILED, error=verdict.error)
    return replace(
        record,
        state=State.COMPLETE,
        result=verdict.result,
        fitness=verdict.result.scalar(weights),
        scores={Split.SEARCH: verdict.score},
    )


def reasons_of(records: Iterable[Record]) -> str:
    """Return why records failed: the commonest reasons with how often each came; "" if none failed.

    Texts that differ only in numbers (of items, of bytes) are one reason, shown by its first text.
    """
    texts: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for record in records:
        if record.error is not None:
            kind = re.sub(r"\d+", "#", cut(record.error, LENGTH))
            texts.setdefault(kind, cut(record.error, LENGTH))
            counts[kind] += 1
    shown = [texts[kind] + (f" ({count} times)" if count > 1 else "") for kind, count in counts.most_common(SHOWN)]
    left = len(counts) - len(shown)
    return "; ".join([*shown, *([f"and {left} further reasons"] if left else [])])
