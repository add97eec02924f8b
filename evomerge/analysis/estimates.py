"""What the estimates and scores by which a search went are worth.

**Beside the full score on the same items** (`checked_estimates`): of candidates that came to answer all search items in
a race, and of the baselines, each left out and asked like a candidate; see `Trace.estimates`.

**Beside scores on items that the search never saw** (`compared_scores`). Most candidates that were asked about a part
of the search items never answer the others, so their estimates can be held against the validation score alone. Their
difference mixes three things: the error of the estimate, the luck of the
items (both are samples of the same kind of items), and the choice of the finalists, whose search scores flatter since
they were chosen for them. Parents and average answered all items and were chosen for nothing, so their differences show
how far the two sets of items lie apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

from evomerge.record import EarlyEstimate, Record, Score, Split
from evomerge.store.run_dir import RunDir
from evomerge.store.traces import Trace

_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class CheckedEstimate:
    """An estimate from some search items beside the score of the same model on all of them.

    Attributes:
        record: the model's.
        estimate: what was made of some items.
        full: the score on all of them.
    """

    record: Record
    estimate: EarlyEstimate
    full: float

    @property
    def error(self) -> float:
        """By how much the estimate is above the full score."""
        return self.estimate.mean - self.full

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the full score on these items, by the estimate's own standard error."""
        half = _Z * self.estimate.error
        return self.estimate.mean - half, self.estimate.mean + half

    @property
    def holds(self) -> bool:
        """Whether the interval holds the full score, as 95 % of them should."""
        return abs(self.error) <= _Z * self.estimate.error


@dataclass(frozen=True)
class Compared:
    """A search score beside the validation score of the same model.

    Attributes:
        record: the model's.
        search: by which the search went; an estimate, where `search.n` is less than `items`.
        validation: its score on the validation items.
        items: how many search items there are.
        last: of an estimate, what the run made of it at its end, when it knew all answers; None: not recorded.
    """

    record: Record
    search: Score
    validation: Score
    items: int
    last: float | None = None

    @property
    def estimated(self) -> bool:
        """Whether the search score is an estimate."""
        return self.search.n < self.items

    @property
    def error(self) -> float:
        """By how much the search score is above the validation score."""
        return self.search.mean - self.validation.mean

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the error, of two independent scores (MOVER; Zou & Donner 2008, eq. 3)."""
        one, other = self.search, self.validation
        low = self.error - math.hypot(one.mean - one.low, other.high - other.mean)
        high = self.error + math.hypot(one.high - one.mean, other.mean - other.low)
        return low, high

    @property
    def holds(self) -> bool:
        """Whether the two scores agree within their intervals, as 95 % of such pairs should."""
        low, high = self.interval
        return low <= 0.0 <= high


class _Pair(Protocol):
    @property
    def error(self) -> float: ...

    @property
    def holds(self) -> bool: ...


@dataclass(frozen=True)
class Agreement:
    """How pairs of scores agree: `CheckedEstimate` or `Compared`.

    Attributes:
        n: how many pairs.
        error: their mean error: above 0 estimates, or search scores, flatter.
        distance: the mean of its size.
        hold: how many agree within their intervals.
    """

    n: int
    error: float
    distance: float
    hold: int


def compared_scores(run: RunDir, records: Sequence[Record]) -> list[Compared]:
    """Return the records that have a search and a validation score, in their order.

    Args:
        run: the run.
        records: baselines and candidates.
    """
    splits = run.database.splits()
    items = sum(len((own.get(str(Split.SEARCH)) or {}).get("items") or ()) for own in splits.values())
    items = items or max((s.n for r in records if (s := (r.scores or {}).get(Split.SEARCH))), default=0)
    last = {one.number: one.worth - one.added for one in run.database.finalists() or ()}
    found = []
    for record in records:
        search, validation = ((record.scores or {}).get(split) for split in (Split.SEARCH, Split.VALIDATION))
        if search is None or validation is None or not math.isfinite(search.mean - validation.mean):
            continue
        estimated = search.n < items
        found.append(Compared(record, search, validation, items, last.get(record.number) if estimated else None))
    return found


def checked_estimates(records: Sequence[Record], traces: Mapping[int, Trace]) -> list[CheckedEstimate]:
    """Return the estimates of records whose score on all search items is known, in their order, fewest items first.

    Args:
        records: baselines and candidates.
        traces: theirs, by number.
    """
    return [
        CheckedEstimate(record, estimate, full.mean)
        for record in records
        if record.number in traces and (full := (record.scores or {}).get(Split.SEARCH)) is not None
        for estimate in traces[record.number].estimates
        if math.isfinite(estimate.mean - full.mean + estimate.error)
    ]


def agreement(pairs: Sequence[_Pair]) -> Agreement | None:
    """Return how some pairs agree; None: there are none."""
    if not pairs:
        return None
    errors = [one.error for one in pairs]
    return Agreement(
        len(pairs),
        math.fsum(errors) / len(errors),
        math.fsum(map(abs, errors)) / len(errors),
        sum(one.holds for one in pairs),
    )
