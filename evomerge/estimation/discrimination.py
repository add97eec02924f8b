"""Items that better models fail more often: likely a wrong key, or a question that can be read in two ways.

The discrimination of an item is the correlation between its scores and the models' mean scores on all other items
(corrected item-total correlation; Henrysson 1963). Many items are a little below zero by chance, so one is named only
if a test says so, and so many are tested that the tests are corrected (Benjamini and Hochberg, JRSS B 57:289, 1995).

Models of one author answer alike and are no independent witnesses. So the test adds up the products whose mean is the
correlation within each author ("author/model"), and asks whether these sums lie below zero: Student's t with one degree
of freedom less than there are authors, the variance being that of a cluster-robust score test (Liang and Zeger 1986).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np

from evomerge.estimation.prior import families
from evomerge.estimation.responses import Floats, Responses

LEAST_MODELS = 10
"""Fewer models with an answer to an item say nothing about it."""
RATE = 0.05
"""The share of wrongly named items among the named ones that is accepted."""
SLICE = 2048
"""How many items are handled at a time, which bounds memory at `(n_models, SLICE)`."""


@dataclass(frozen=True)
class NegativeItem:
    """An item that better models fail more often.

    Attributes:
        item: its name.
        discrimination: correlation of its scores with the mean of all others, below 0.
        q: the smallest false discovery rate at which it would be named.
        right: its mean score.
        models: how many models answered it.
    """

    item: str
    discrimination: float
    q: float
    right: float
    models: int


@dataclass(frozen=True, eq=False)
class Discriminations:
    """How well each item tells better models from worse ones.

    Attributes:
        items: `(n_items,)` names.
        r: `(n_items,)` item-rest correlations; NaN where too few models answered, or all of them alike.
        p: `(n_items,)` one-sided p-values of a correlation below 0; NaN where `r` is.
        right: `(n_items,)` mean scores.
        models: `(n_items,)` numbers of models with an answer.
    """

    items: tuple[str, ...]
    r: Floats
    p: Floats
    right: Floats
    models: Floats

    @property
    def tested(self) -> int:
        """The number of items that could be tested."""
        return int((~np.isnan(self.p)).sum())

    def negative(self, rate: float = RATE) -> list[NegativeItem]:
        """Return the items whose correlation is below 0 at this false discovery rate, the most negative first."""
        q = adjusted(self.p)
        named = np.flatnonzero(~np.isnan(q) & (q <= rate) & (self.r < 0))
        return [
            NegativeItem(self.items[i], float(self.r[i]), float(q[i]), float(self.right[i]), int(self.models[i]))
            for i in named[np.argsort(self.r[named], kind="stable")].tolist()
        ]


def discriminations(responses: Responses) -> Discriminations:
    """Return the discrimination of each item over the models of a matrix, with its test."""
    R = responses.scores
    known = ~np.isnan(R)
    y = np.where(known, R, 0.0)
    total, count = y.sum(1), known.sum(1)
    group = families(responses.models)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    n_items = responses.n_items
    r, p = np.full(n_items, np.nan), np.full(n_items, np.nan)
    models = known.sum(0).astype(np.float64)
    right = np.divide(y.sum(0), models, out=np.full(n_items, np.nan), where=models > 0)
    for start in range(0, n_items, SLICE):
        here = slice(start, start + SLICE)
        x, there = y[:, here], known[:, here] & (count > 1)[:, None]
        rest = (total[:, None] - x) / np.maximum(count[:, None] - known[:, here], 1)
        n = there.sum(0)
        a, b = _standardized(x, there, n), _standardized(rest, there, n)
        product = a * b  # 0 where there is no answer
        sums = np.add.reduceat(product[order], starts, axis=0)
        authors = (np.add.reduceat(there[order], starts, axis=0) > 0).sum(0)
        found = (n >= LEAST_MODELS) & (authors > 2) & (a**2).any(0) & (b**2).any(0)
        spread = np.sqrt((sums**2).sum(0))
        with np.errstate(invalid="ignore", divide="ignore"):
            r[here] = np.where(found, product.sum(0) / n, np.nan)
            p[here] = np.where(found, _lower_tail(sums.sum(0) / spread, authors - 1.0), np.nan)
    return Discriminations(responses.items, r, p, right, models)


def adjusted(p: Floats) -> Floats:
    """Return the p-values adjusted by Benjamini and Hochberg's procedure, NaN where `p` is NaN.

    One that is at most the false discovery rate is a discovery at that rate.
    """
    q = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def _standardized(x: Floats, there: np.ndarray, n: np.ndarray) -> Floats:
    """Return columns with mean 0 and mean square 1 over the models that are there; 0 elsewhere, or if all are alike."""
    mean = np.where(there, x, 0.0).sum(0) / np.maximum(n, 1)
    gap = np.where(there, x - mean, 0.0)
    size = np.sqrt((gap**2).sum(0) / np.maximum(n, 1))
    return np.asarray(np.divide(gap, size, out=np.zeros_like(gap), where=size > 1e-9))


def _lower_tail(t: Floats, freedom: Floats) -> Floats:
    """Return the chance that Student's t lies below `t`, by Wallace's normal approximation (1959), exact to 1e-3."""
    z = np.sqrt(freedom * np.log1p(t**2 / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
    return np.array([0.5 * erfc(-value / sqrt(2)) for value in np.copysign(z, t).tolist()])
