"""Comparing how long choices take, measured in turns, so that no busy moment of a machine decides."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

WORTH = 0.9
"""More threads are taken only if they need less than this share of the time: others may use the cores, too."""

WORTH_ONCE = 0.67
"""The same where fewer than `FEWEST` rounds were measured, of which a busy moment may have been one."""

HOPELESS = (4.0, 1.5)
"""What took more than so many times as long as the quickest is measured no more: in the first round, which may have
been a busy moment, and in the best of several."""

FEWEST, MOST = 3, 7
"""Rounds of measurements."""

SECONDS = 2.0
"""After so many seconds no further round begins, once there were enough."""

Clock = Callable[[], float]


def in_turns(
    measure: Callable[[int], float],
    choices: Sequence[int],
    *,
    allowed: float = math.inf,
    clock: Clock = time.perf_counter,
) -> dict[int, list[float]]:
    """Measure several choices in turns, so that a busy moment strikes all alike.

    Args:
        measure: returns the seconds of a choice, measured anew.
        choices: what is compared.
        allowed: after so many seconds no further round begins, even if there is but one.
        clock: seconds since some instant.

    Returns:
        Choice to its seconds, one for each round; choices that were given up have fewer.
    """
    began = clock()
    found: dict[int, list[float]] = {choice: [] for choice in choices}
    going = list(choices)
    for number in range(MOST):
        if number and clock() - began > (min(SECONDS, allowed) if number >= FEWEST else allowed):
            break
        for choice in going if number % 2 == 0 else reversed(going):
            found[choice].append(measure(choice))
        longest = HOPELESS[min(number, 1)] * min(min(found[choice]) for choice in going)
        going = [choice for choice in going if min(found[choice]) <= longest]
        if len(going) == 1:
            break
    return found


def fewest_worth(found: Mapping[int, Sequence[float]]) -> int:
    """Return the number of threads to take: more only where they are clearly faster, round by round.

    Each number is compared with the best so far by the median over rounds of the ratio of both times, so that no single
    measurement decides.

    Args:
        found: as `in_turns` returns it, ascending by the number of threads.
    """
    best = next(iter(found))
    for choice in found:
        rounds = min(len(found[choice]), len(found[best]))
        if ratio(found[choice], found[best]) < (WORTH if rounds >= FEWEST else WORTH_ONCE):
            best = choice
    return best


def ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """Return the median over common rounds of how many times as long these took as those."""
    return median(one / max(other, 1e-9) for one, other in zip(these, those, strict=False))
