"""How long a search will take, from what a few candidates cost: the plan for its budget."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from evomerge.search.budget import Budget
from evomerge.system.text import duration


@dataclass(frozen=True)
class Cost:
    """What a candidate costs, in seconds of one worker.

    Attributes:
        build: for building it.
        batch: for each batch of items, however many it has.
        item: for each item.
        batch_size: most items of a batch.
    """

    build: float
    batch: float
    item: float
    batch_size: int

    @classmethod
    def fitted(cls, few: tuple[int, float], more: tuple[int, float], *, build: float, batch_size: int) -> Cost:
        """Return the cost that two measurements show.

        Args:
            few: how many items were answered, and the seconds that this took, building included.
            more: the same for more items, still no more than a batch.
            build: seconds of building alone.
            batch_size: most items of a batch.
        """
        (n, seconds), (n_more, seconds_more) = few, more
        whole = max(0.0, seconds_more - build)
        # A busy moment may make few items look slower than more; and no item is free of a share of what all cost.
        each = min(max(0.0, seconds_more - seconds) / max(1, n_more - n), whole / n_more)
        return cls(build, whole - each * n_more, each, batch_size)

    def seconds(self, items: int) -> float:
        """Return what a candidate costs that answers so many items."""
        return self.build + math.ceil(items / self.batch_size) * self.batch + items * self.item


@dataclass(frozen=True)
class Plan:
    """About how long the parts of a search will take, in seconds by the clock.

    Attributes:
        candidates: how many candidates the budget has room for; None: nothing limits it.
        candidate_seconds: of one candidate.
        merge_share: the share of it that is the merge; None: not known.
        search_seconds: of all candidates; None: nothing limits them.
        baselines_seconds: of the parents and the plain average, on the search and validation items; 0: they are done.
        finals_seconds: of the finalists and the test.
        by_time: whether `budget.seconds` ends the search first.
    """

    candidates: int | None
    candidate_seconds: float
    merge_share: float | None
    search_seconds: float | None
    baselines_seconds: float
    finals_seconds: float
    by_time: bool

    def to_data(self) -> dict[str, Any]:
        """Return the JSON form, with `seconds` for all parts together."""
        return {**asdict(self), "seconds": self.seconds}

    @property
    def seconds(self) -> float | None:
        """Seconds of the whole search; None: nothing limits it."""
        if self.search_seconds is None:
            return None
        return self.baselines_seconds + self.search_seconds + self.finals_seconds

    def sentence(self, now: datetime | None = None) -> str:
        """Return the plan in a sentence.

        Args:
            now: when the search begins, in local time; None: it does not, so it says how long all takes, not its end.
        """
        share = "" if self.merge_share is None else f" (merge {100 * self.merge_share:.0f} %)"
        said = f"plan: a candidate takes about {duration(self.candidate_seconds)}{share}"
        if self.search_seconds is None or self.seconds is None:
            return f"{said}; nothing limits the search"
        if self.by_time:
            said += f", so budget.seconds ({duration(self.search_seconds)}) has room for about {self.candidates}"
        else:
            said += f", so {self.candidates} take about {duration(self.search_seconds)}"
        first = f"baselines {duration(self.baselines_seconds)}, " if self.baselines_seconds else ""
        said = f"{said}; {first}finalists and test {duration(self.finals_seconds)}"
        if now is None:
            return f"{said}; about {duration(self.seconds)} together"
        ends = now + timedelta(seconds=self.seconds)
        day = "" if ends.date() == now.date() else f"{ends:%a} " if self.seconds < 6 * 86400 else f"{ends:%Y-%m-%d} "
        return f"{said}; ends about {day}{ends:%H:%M}"


def plan(
    cost: Cost,
    budget: Budget,
    *,
    items: int,
    search: int,
    validation: int,
    test: int,
    baselines: int,
    finalists: int,
    workers: int = 1,
    merge_share: float | None = None,
) -> Plan:
    """Return how long a search will take.

    Args:
        cost: of a candidate.
        budget: the limits of the search.
        items: how many search items a candidate answers.
        search: how many search items there are, all of which baselines answer.
        validation: how many validation items there are; so is `test`.
        test: how many test items there are.
        baselines: how many baselines there are.
        finalists: how many candidates are scored on the validation items.
        workers: how many candidates run at a time.
        merge_share: the share of a candidate's time that is the merge; None: not known.
    """
    each = cost.seconds(items)
    limits = [one for one in (budget.candidates, None if budget.items is None else budget.items // items)
              if one is not None]  # fmt: skip
    wanted = min(limits, default=None)
    seconds = None if wanted is None else wanted * each / workers
    by_time = budget.seconds is not None and (seconds is None or budget.seconds < seconds)
    if by_time and budget.seconds is not None:
        wanted, seconds = int(budget.seconds * workers / max(each, 1e-9)), budget.seconds
    chosen = finalists if wanted is None else min(finalists, wanted)

    def on(n: int) -> float:
        return cost.seconds(n) if n else 0.0

    return Plan(
        wanted,
        each,
        merge_share,
        seconds,
        baselines * (on(search) + on(validation)) / workers,
        (chosen * on(validation) + (baselines + 1) * on(test)) / workers,
        by_time,
    )
