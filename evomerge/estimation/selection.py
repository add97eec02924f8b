"""Which items to ask: a fixed set for all targets, chosen by calibration models alone, or one after each answer.

| name | items | weights |
|---|---|---|
| uniform | drawn at random | – |
| stratified | at random within classes of difficulty | – |
| anchors | nearest to the centres of k-means on the responses (Vivek et al. 2024) | sizes of the clusters |
| irt-anchors | the same with k-means on (a_i, b_i) (Maia Polo et al. 2024, §3.3) | sizes of the clusters |
| greedy | each lowers the error variance of the linear prediction of the score most | – |
| fisher | adaptive: most Fisher information at the present ability | – |
| adaptive | adaptive: most expected fall of the variance of the score | – |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import EstimationError, unknown_name
from evomerge.estimation.base import Mask, Parents
from evomerge.estimation.irt import IRT, fit_irt, map_ability
from evomerge.estimation.mixture import Mixture, default_dimension
from evomerge.estimation.responses import Floats, Responses
from evomerge.estimation.simple import filled

Items = NDArray[np.int64]
Answer = Callable[[Items], Floats]
"""Returns the `(n_targets,)` scores on items, one for each target, from their `(n_targets,)` numbers; -1: no item."""


@dataclass(frozen=True, eq=False)
class ItemChoice:
    """Items in the order in which they were chosen, so that the first k are a choice of k items.

    Attributes:
        items: `(n_chosen,)` numbers of items; for anchors the order has no meaning.
        weights: `(n_items,)` what an answer to each item stands for, 0 for items that were not chosen; None: equal
            weights.
    """

    items: Items
    weights: Floats | None = None


def choose(name: str, calibration: Responses, n: int, *, seed: int = 0) -> ItemChoice:
    """Choose `n` items for all targets from calibration responses alone.

    Raises:
        EstimationError: if the name is not known, or `n` is not a possible number of items.
    """
    if name not in FIXED:
        raise EstimationError(unknown_name("choice of fixed items", name, FIXED))
    check_number(n, calibration.n_items)
    return FIXED[name](calibration, n, np.random.default_rng(seed))


def check_number(n: int, n_items: int) -> None:
    """Check that a number of items can be chosen.

    Raises:
        EstimationError: if it is below 1, or above the number of items.
    """
    if not 1 <= n <= n_items:
        raise EstimationError(f"the number of items must lie between 1 and the {n_items} of the pool; got {n}")


def _uniform(calibration: Responses, n: int, rng: np.random.Generator) -> ItemChoice:
    return ItemChoice(rng.permutation(calibration.n_items)[:n])


def _stratified(calibration: Responses, n: int, rng: np.random.Generator) -> ItemChoice:
    rate = filled(calibration.scores).mean(0)
    order = np.lexsort((rng.random(len(rate)), rate))  # ties in random order
    # Equal parts of the sorted items, up to rounding at a random start (systematic sampling).
    edges = (np.arange(n) + rng.random(n)) * len(order) / n
    found = np.unique(np.minimum(edges.astype(np.int64), len(order) - 1))
    spare = np.setdiff1d(np.arange(len(order)), found)
    found = np.concatenate([found, rng.permutation(spare)[: n - len(found)]])
    return ItemChoice(rng.permutation(order[found]))


def _anchors(calibration: Responses, n: int, rng: np.random.Generator) -> ItemChoice:
    return _nearest_to_centres(filled(calibration.scores).T, n, rng)


def _irt_anchors(calibration: Responses, n: int, rng: np.random.Generator) -> ItemChoice:
    irt = fit_irt(calibration, dimension=default_dimension(calibration.n_models), seed=int(rng.integers(2**31)))
    return _nearest_to_centres(np.column_stack([irt.a, irt.b]), n, rng)


def _nearest_to_centres(points: Floats, n: int, rng: np.random.Generator) -> ItemChoice:
    """Choose by k-means (Lloyd, from k-means++ centres) the nearest free point to each centre, for its cluster."""
    centres = _plus_plus(points, n, rng)
    label = np.full(len(points), -1)
    for _ in range(50):
        distance = _square_distances(points, centres)
        before, label = label, distance.argmin(1)
        if (label == before).all():
            break
        for cluster in np.flatnonzero(np.bincount(label, minlength=n)):
            centres[cluster] = points[label == cluster].mean(0)
    distance = _square_distances(points, centres)
    label = distance.argmin(1)
    items: list[int] = []
    weights = np.zeros(len(points))
    # Points that coincide leave clusters empty; an empty cluster takes any free point, with weight 0.
    for cluster in np.argsort(-np.bincount(label, minlength=n), kind="stable"):
        item = int(np.argmin(np.where(np.isin(np.arange(len(points)), items), np.inf, distance[:, cluster])))
        items.append(item)
        weights[item] = (label == cluster).mean()
    return ItemChoice(np.array(items), weights)


def _plus_plus(points: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Return centres that are far apart (Arthur and Vassilvitskii 2007)."""
    chosen = [int(rng.integers(len(points)))]
    nearest = _square_distances(points, points[chosen])[:, 0]
    while len(chosen) < n:
        total = nearest.sum()
        chosen.append(int(rng.choice(len(points), p=nearest / total if total > 0 else None)))
        nearest = np.minimum(nearest, _square_distances(points, points[chosen[-1:]])[:, 0])
    return points[chosen].copy()


def _square_distances(points: Floats, centres: Floats) -> Floats:
    squared = (points**2).sum(1)[:, None] - 2 * points @ centres.T + (centres**2).sum(1)
    return np.asarray(np.maximum(squared, 0.0))


NOISE = 0.03
"""The part of an answer's variance that says nothing about other answers, added to the calibration's covariance."""


def _greedy(calibration: Responses, n: int, rng: np.random.Generator) -> ItemChoice:
    """Choose items by forward selection: each removes the most variance from the mean of jointly normal responses.

    The covariance of all items, given the chosen ones, is updated by one rank-one step for each item.
    """
    del rng  # nothing is drawn
    X = filled(calibration.scores)
    gaps = X - X.mean(0)
    K = gaps.T @ gaps / max(len(X) - 1, 1)
    items: list[int] = []
    for _ in range(n):
        gain = K.mean(1) ** 2 / (np.diag(K) + NOISE)
        gain[items] = -1.0
        item = int(gain.argmax())
        items.append(item)
        K -= np.outer(K[:, item], K[:, item]) / (K[item, item] + NOISE)
    return ItemChoice(np.array(items))


FIXED: dict[str, Callable[[Responses, int, np.random.Generator], ItemChoice]] = {
    "uniform": _uniform,
    "stratified": _stratified,
    "anchors": _anchors,
    "irt-anchors": _irt_anchors,
    "greedy": _greedy,
}
ADAPTIVE = ("adaptive", "fisher")


def ask_adaptively(mixture: Mixture, answer: Answer, n: int, pool: Mask, parents: Parents | None = None) -> Floats:
    """Ask each target `n` items (all, if its pool is smaller), one after the other, each chosen by the answers so far.

    Args:
        mixture: a fitted estimator; its posterior says how much an answer is expected to tell.
        answer: called with the item numbers of all targets; no other scores are used.
        n: how many items each target is asked.
        pool: `(n_targets, n_items)` items that may be asked.
        parents: of each target, as for `Mixture.estimate`.

    Returns:
        `(n_targets, n_items)` answers, NaN where not asked.
    """
    check_number(n, pool.shape[1])
    ready = list(mixture.posteriors(pool, parents))
    draw = mixture.offers()
    for _ in range(n):
        chosen = np.full(len(pool), -1, dtype=np.int64)
        offered = next(draw)
        for targets, posterior in ready:
            chosen[targets] = posterior.next_items(offered)
        scores = answer(chosen)
        for targets, posterior in ready:
            posterior.tell_one(chosen[targets], scores[targets])
    seen = np.full(pool.shape, np.nan)
    for targets, posterior in ready:
        seen[targets] = posterior.seen
    return seen


def ask_by_information(irt: IRT, answer: Answer, n: int, pool: Mask) -> Floats:
    """Ask the item with the most Fisher information at the most probable ability (computerised adaptive testing).

    In several dimensions, the information a a' p (1 - p) of an item is measured by how much it adds to the determinant
    of the posterior precision (D-optimality; Segall 1996): log(1 + p (1 - p) a' C a), with C the posterior covariance.
    """
    check_number(n, pool.shape[1])
    seen = np.full(pool.shape, np.nan)
    rows = np.arange(len(pool))
    for _ in range(n):
        theta, cov = map_ability(irt, seen)
        p = irt.probability(theta)
        information = p * (1 - p) * np.einsum("id,tde,ie->ti", irt.a, cov, irt.a)
        free = pool & np.isnan(seen)
        chosen = np.where(free.any(1), np.where(free, information, -1.0).argmax(1), -1)
        scores = answer(chosen)
        told = chosen >= 0
        seen[rows[told], chosen[told]] = scores[told]
    return seen
