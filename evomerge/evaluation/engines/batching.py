"""Which requests share a forward pass: those of similar length, for little padding, within the measured memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from evomerge.evaluation.engines.memory import SHARE, free_bytes, peaks

PASS_TOKENS = {"cpu": 48, "other": 4096}
"""The cost of a forward pass besides its tokens, in tokens: less padding than this is cheaper than another pass.

On a CPU it was measured with a model of one million parameters (with a larger model it is smaller); on an accelerator
it is about the number of tokens that fills the device.
"""

MIN_PREFIX = 16
"""The shortest common beginning that is worth a forward pass of its own, in tokens."""


@dataclass(frozen=True)
class Shared:
    """Requests whose token ids begin alike.

    Attributes:
        prefix: the common token ids, which are read once; empty: there are none.
        members: positions of the requests.
    """

    prefix: tuple[int, ...]
    members: tuple[int, ...]


def by_prefix(sequences: Sequence[tuple[int, ...]], tasks: Sequence[str]) -> list[Shared]:
    """Group requests by the beginning that all requests of a task have in common, which leaves each at least one token.

    Tasks without a common beginning form one group. In a group, the longest sequences come first, equal ones in a fixed
    order.
    """
    of_task: dict[str, list[int]] = {}
    for index, task in enumerate(tasks):
        of_task.setdefault(task, []).append(index)
    rest: list[int] = []
    groups: list[tuple[tuple[int, ...], list[int]]] = []
    for members in of_task.values():
        prefix = _common([sequences[index] for index in members])
        if len(members) > 1 and len(prefix) >= MIN_PREFIX:
            groups.append((prefix, members))
        else:
            rest += members
    if rest:
        groups.append(((), rest))
    return [
        Shared(prefix, tuple(sorted(members, key=lambda index: (-len(sequences[index]), sequences[index]))))
        for prefix, members in groups
    ]


def _common(sequences: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return what all sequences begin with, without the last token of any."""
    # All sequences between the smallest and the largest begin with what these two begin with.
    low, high = min(sequences), max(sequences)
    most = min(map(len, sequences)) - 1
    return low[: next((i for i in range(most) if low[i] != high[i]), most)]


@functools.lru_cache(maxsize=1024)
def partition(lengths: tuple[int, ...], pass_tokens: int) -> tuple[tuple[int, int], ...]:
    """Cut a descending list of lengths into runs that are each padded to their longest.

    The cuts are those with the least padded tokens plus `pass_tokens` per run, by dynamic programming over the
    distinct lengths.

    Returns:
        First and last (exclusive) position of each run.
    """
    starts = [i for i in range(len(lengths)) if i == 0 or lengths[i] != lengths[i - 1]] + [len(lengths)]
    best: list[tuple[int, int]] = [(0, 0)]  # cost of the first k distinct lengths, and where their last run begins
    for k in range(1, len(starts)):
        best.append(min((best[j][0] + pass_tokens + lengths[starts[j]] * (starts[k] - starts[j]), j) for j in range(k)))
    cuts = [len(starts) - 1]
    while cuts[-1]:
        cuts.append(best[cuts[-1]][1])
    return tuple((starts[a], starts[b]) for a, b in pairwise(cuts[::-1]))


@dataclass
class TokenBudget:
    """How many tokens fit into a pass, measured once for each kind of work on its longest row.

    Attributes:
        batch_size: most rows, whatever the memory.
        sharers: how many processes, this one included, take memory from what is free.
    """

    batch_size: int
    sharers: int = 1
    _measured: dict[Hashable, tuple[int, float]] = field(default_factory=dict)  # longest row, tokens that fit

    def batches(
        self, kind: Hashable, lengths: Sequence[int], device: Any, probe: Callable[[], object]
    ) -> Iterator[tuple[int, int]]:
        """Yield first and last (exclusive) position of each batch, the longest rows first.

        Args:
            kind: the kind of work.
            lengths: `(n_rows,)`, the length of each row with its answer, in tokens; descending.
            device: a device of the model.
            probe: runs the first row alone, from an empty cache to its first logits.
        """
        longest, fits = self._measured.get(kind, (0, 0.0))
        if lengths[0] > longest:
            # Memory per token grows with the length, so only the longest row was measured, which bounds the others.
            longest = lengths[0]
            # Each device that holds some of the layers has its limit; the smallest counts.
            fits = min(
                SHARE * free_bytes(place) / self.sharers / max(1, peak) * longest
                for place, peak in peaks(probe, device).items()
            )
            self._measured[kind] = (longest, fits)
        first = 0
        while first < len(lengths):
            rows = max(1, min(self.batch_size, int(fits // max(1, lengths[first]))))
            yield first, min(len(lengths), first + rows)
            first += rows

    def halve(self, kind: Hashable) -> None:
        """Allow half as many tokens from now on, because the device ran out of memory all the same."""
        longest, fits = self._measured[kind]
        self._measured[kind] = (longest, fits / 2)
