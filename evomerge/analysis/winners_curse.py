"""What the best of several finalists is worth, without the luck of being chosen.

The winner's validation mean is the largest of k noisy means, and so too good on average. Bootstrap bias correction
(BBC-CV: Tsamardinos, Greasidou & Borboudakis 2018, Machine Learning 107:1895) repeats the choice: items are drawn with
replacement, the best finalist on the drawn items is chosen, and it is scored on the items that were not drawn. The mean
over the draws estimates the score of *choosing the best of these k*, and their 2.5 % and 97.5 % quantiles are its
interval. The interval is at least as wide as that of a mean without a choice, since resampling shows no spread if the
finalists have everything right or everything wrong.

Reasons for this method: the items that choose never score, so the estimate has no bias if all finalists are equal,
whatever the metric's distribution. Finalists are compared on the same drawn items, so their correlation (most merges of
one search agree on most items) counts without a model of it. No finalist is trained again. A normal model with
shrinkage needs the covariance, and fits worst with the few finalists and the 0/1 items of a search. The remaining
errors are on the careful side: a draw holds 63 % of the items, so it chooses a little worse than all items would, and
the other 37 % make the interval wider than that of all items.

The choice is repeated by the rule that made it (`evomerge.analysis.replay`). The estimate is never above the score that
it corrects, since a choice can only flatter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.evaluation.intervals import mean_score, weighted_sum, wilson
from evomerge.evaluation.worst import Ratio, worst_score
from evomerge.record import Score

DRAWS = 1000
"""The number of bootstrap draws."""


Rule = Callable[[Mapping[str, NDArray[np.float64]]], NDArray[np.intp]]
"""Task to `(draws, n_items)`, how often each item was drawn, to `(draws,)`, the row of the model that is chosen."""


def adjusted_for_selection(
    values: Mapping[str, NDArray[Any]],
    weights: Mapping[str, float],
    *,
    rule: Rule | None = None,
    winner: int | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Score:
    """Return the score of choosing the best of k models, with its 95 % interval.

    Args:
        values: task to `(n_models, n_items)` values of the objective's metric; rows are the same models in each task.
            NaN: not judged; items count that are judged for every model.
        weights: task to its signed weight in the objective; tasks of weight 0 do not count, but the rule gets draws of
            their items too.
        rule: what chooses; None: the largest weighted sum, the first of equal ones.
        winner: row of the model that was chosen; None: the rule's choice on all items.
        draws: number of bootstrap draws.
        seed: of the draws.

    Raises:
        ValueError: if there are no models or items, the numbers of models differ, or a value is infinite.
    """
    every = {task: np.asarray(rows, float) for task, rows in values.items()}
    judged = {task: ~np.isnan(rows).any(axis=0) for task, rows in every.items()}
    used = {task: every[task][:, judged[task]] for task, weight in weights.items() if weight != 0.0}
    ks = {len(rows) for rows in used.values()}
    if len(ks) != 1 or 0 in ks or any(rows.shape[1] < 1 for rows in used.values()):
        raise ValueError(f"expected the same models in each task, but came {[rows.shape for rows in used.values()]}")
    if any(not np.isfinite(rows).all() for rows in used.values()):
        raise ValueError("no value may be infinite")
    generator = np.random.default_rng(seed)
    counts = {task: _counts(generator, rows.shape[1], draws) for task, rows in every.items() if rows.shape[1]}
    rule = rule or _largest(used, weights, judged)
    chosen = rule(counts)
    outside = {}
    for task, rows in used.items():
        left_out = (counts[task][:, judged[task]] == 0).astype(float)
        left_out[left_out.sum(axis=1) == 0.0] = 1.0  # of few judged items none may be left
        outside[task] = (left_out @ rows.T) / left_out.sum(axis=1, keepdims=True)
    if winner is None:
        winner = int(rule({task: np.ones((1, rows.shape[1])) for task, rows in every.items() if rows.shape[1]})[0])
    drawn = {task: scores[np.arange(draws), chosen] for task, scores in outside.items()}
    total = np.sum([weights[task] * scores for task, scores in drawn.items()], axis=0)
    low, high = np.quantile(total, [0.025, 0.975])
    signed = [weights[task] for task in used]
    least = weighted_sum(
        [_plain_interval(float(drawn[task].mean()), rows[winner]) for task, rows in used.items()], signed
    )
    own = [every[task][winner] for task in used]
    raw = weighted_sum([mean_score(row[~np.isnan(row)].tolist()) for row in own], signed)
    mean = min(least.mean, raw.mean)
    return Score(
        mean, min(float(low), least.low, mean), max(mean, min(max(float(high), least.high), raw.high)), least.n
    )


def adjusted_worst(
    ratios: Sequence[Sequence[Ratio]],
    rule: Rule,
    winner: int,
    *,
    sizes: Mapping[str, int],
    draws: int = DRAWS,
    seed: int = 0,
) -> Score:
    """Return the same where the score is the worst entry relative to its best parent, which is no sum.

    In each draw the ratios of the chosen model are those on the items that were not drawn, by their linear forms. A
    minimum of noisy ratios is too low, so it is taken once the noise is averaged out: for each model over the draws in
    which it is chosen, weighted by their share.

    Args:
        ratios: for each model its ratios, with the same items for each.
        rule: what chooses.
        winner: row of the model that was chosen.
        sizes: each task to its number of items; the rule gets draws of tasks without a weight too, for their limits.
        draws: number of bootstrap draws.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    counts = {task: _counts(generator, n, draws) for task, n in sizes.items()}
    chosen = rule(counts)
    outside = []
    for entry in zip(*ratios, strict=True):
        left_out = (counts[entry[0].task] == 0).astype(float)
        forms = np.array([one.mean + one.forms for one in entry])
        means = (left_out @ forms.T) / left_out.sum(axis=1, keepdims=True)
        outside.append(means[np.arange(draws), chosen])
    drawn = np.array(outside)
    total = sum(
        float((chosen == model).mean()) * float(drawn[:, chosen == model].mean(axis=1).min())
        for model in np.unique(chosen)
    )
    low, high = np.quantile(drawn.min(axis=0), [0.025, 0.975])
    raw = worst_score(ratios[winner])
    mean = min(total, raw.mean)
    least, most = mean - (raw.mean - raw.low), mean + (raw.high - raw.mean)
    return Score(mean, min(float(low), least, mean), max(mean, min(max(float(high), most), raw.high)), raw.n)


def _largest(
    used: Mapping[str, NDArray[np.float64]], weights: Mapping[str, float], judged: Mapping[str, NDArray[np.bool_]]
) -> Rule:
    """Return the rule of the largest weighted sum."""

    def rule(counts: Mapping[str, NDArray[np.float64]]) -> NDArray[np.intp]:
        sums = []
        for task, rows in used.items():
            drawn = counts[task][:, judged[task]]
            sums.append(weights[task] * (drawn @ rows.T) / np.maximum(1.0, drawn.sum(axis=1, keepdims=True)))
        return np.argmax(np.round(np.sum(sums, axis=0), 12), axis=1)

    return rule


def _plain_interval(mean: float, values: NDArray[np.float64]) -> Score:
    """Return the interval of a mean without any choice; where all items are equal, resampling shows no spread."""
    n = len(values)
    if np.isin(values, (0.0, 1.0)).all() and 0.0 <= mean <= 1.0:
        return Score(mean, *wilson(mean * n, n), n)
    plain = mean_score(values.tolist())
    return Score(mean, mean - (plain.mean - plain.low), mean + (plain.high - plain.mean), n)


def _counts(generator: np.random.Generator, n: int, draws: int) -> NDArray[np.float64]:
    """Return how often each item is in each draw, `(draws, n_items)`; every draw leaves out at least one item."""
    if n == 1:
        return np.zeros((draws, 1))  # only the order chooses, and the only item scores
    counts = generator.multinomial(n, np.full(n, 1.0 / n), size=draws)
    while (full := np.flatnonzero((counts > 0).all(axis=1))).size:
        counts[full] = generator.multinomial(n, np.full(n, 1.0 / n), size=full.size)
    return counts.astype(float)
