"""Which items candidates are asked: orders of all items, in which the first n are a good sample for every n."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

POLICIES = ("uniform", "stratified", "information")
"""`uniform`: items at random. `stratified`: items spread evenly over tasks and difficulty. `information`: for each
candidate the items whose answers are least certain (maximum Fisher information at its present ability), spread over
tasks."""


def uniform_order(n_items: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """Return a random order of `n_items` items; the same seed gives the same order."""
    return np.random.default_rng(seed).permutation(n_items).astype(np.int64)


def stratified_order(strata: NDArray[np.int64], level: NDArray[np.float64], seed: tuple[int, ...]) -> NDArray[np.int64]:
    """Return an order in which the first n items are spread evenly over strata and levels, for every n.

    Items are ranked by stratum and level (equal ones at random). The ranks are halved again and again; the two halves
    take turns, and it is drawn which of them begins: a van der Corput sequence with Owen's scrambling (Owen 1995, in
    Monte Carlo and Quasi-Monte Carlo Methods). So all items are equally likely, and a plain mean over the items stays
    unbiased.

    Args:
        strata: `(n_items,)`, the task of each item.
        level: `(n_items,)`, for example the item's expected score.
        seed: of the scrambling and of the order among equals.

    Returns:
        `(n_items,)` positions of the items.
    """
    rng = np.random.default_rng(seed)
    ranked = np.lexsort((rng.random(len(strata)), level, strata))
    return _in_turns(ranked.astype(np.int64), rng)


def _in_turns(ranked: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a list in which the two halves of `ranked`, themselves put in such an order, take turns."""
    if len(ranked) < 2:
        return ranked
    larger_first = bool(rng.integers(2))
    middle = (len(ranked) + int(larger_first)) // 2
    halves = [_in_turns(ranked[:middle], rng), _in_turns(ranked[middle:], rng)]
    # The larger half begins, since it also has the last turn; of equal halves either may begin.
    if len(halves[1]) > len(halves[0]) or (len(halves[0]) == len(halves[1]) and larger_first):
        halves.reverse()
    order = np.empty_like(ranked)
    order[0::2], order[1::2] = halves
    return order


def information_order(
    strata: NDArray[np.int64], expected: NDArray[np.float64], seed: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return an order by Fisher information p (1 - p) of the Rasch model, in which strata take turns by their size.

    Args:
        strata: `(n_items,)`, the task of each item.
        expected: `(n_items,)`, probability that this candidate is right.
        seed: of the order among equals.

    Returns:
        `(n_items,)` positions of the items.
    """
    rng = np.random.default_rng(seed)
    information = expected * (1.0 - expected)
    turn = np.empty(len(strata))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        ranked = members[np.lexsort((rng.random(len(members)), -information[members]))]
        turn[ranked] = (np.arange(len(ranked)) + 0.5) / len(ranked)
    return np.lexsort((rng.random(len(strata)), turn)).astype(np.int64)
