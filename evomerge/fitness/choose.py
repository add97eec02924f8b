"""Which items candidates are asked: orders of the pool whose every beginning is a good sample."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

POLICIES = ("uniform", "stratified", "information")
"""`uniform`: any items. `stratified`: spread evenly over tasks and difficulty. `information`: each candidate gets the
items whose answer is least certain for it (maximum Fisher information at its present ability), spread over tasks."""

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def uniform_order(n_items: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """Return a random order of `n_items` items; the same seed gives the same order."""
    return np.random.default_rng(seed).permutation(n_items).astype(np.int64)


def stratified_order(strata: NDArray[np.int64], level: NDArray[np.float64], seed: tuple[int, ...]) -> NDArray[np.int64]:
    """Return an order in which the first n items are spread evenly over strata and levels, for every n.

    Items are ranked by stratum and level (equal ones at random), and taken in the order of the golden-ratio sequence
    {u + r (sqrt(5) - 1)/2}: by the three-distance theorem the ranks with the smallest n values lie evenly. The shift u
    is random, so each item is as likely as any other, and a plain mean over the items stays unbiased.

    Args:
        strata: `(n_items,)`, the task of each item.
        level: `(n_items,)`, for example its expected score.
        seed: of the shift and of the order among equals.
    """
    rng = np.random.default_rng(seed)
    ranked = np.lexsort((rng.random(len(strata)), level, strata))
    value = (rng.random() + np.arange(len(strata)) * _GOLDEN) % 1.0
    return ranked[np.argsort(value, kind="stable")].astype(np.int64)


def information_order(
    strata: NDArray[np.int64], expected: NDArray[np.float64], seed: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return an order by Fisher information p (1 - p) of the Rasch model, strata taking turns by their size.

    Args:
        strata: `(n_items,)`, the task of each item.
        expected: `(n_items,)`, probability that this candidate is right.
        seed: of the order among equals.
    """
    rng = np.random.default_rng(seed)
    information = expected * (1.0 - expected)
    turn = np.empty(len(strata))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        ranked = members[np.lexsort((rng.random(len(members)), -information[members]))]
        turn[ranked] = (np.arange(len(ranked)) + 0.5) / len(ranked)
    return np.lexsort((rng.random(len(strata)), turn)).astype(np.int64)
