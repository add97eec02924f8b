"""How much each gene explains of whether a candidate is among the best of a search: PED-ANOVA.

Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter GeneShare in Arbitrary Subspaces"
(IJCAI 2023, arXiv 2304.10255): the variance that a gene explains of being among the best share g of all candidates is
g² times the Pearson divergence of the two densities of the gene's values (theorem 1), of the best (p) and of all (q):

    D = ∫ (p(x) / q(x) - 1)² q(x) dx

It needs no model of the fitness and no uniform sample: q is where the search went. g² is the same for all genes, so
that D says which of them matter. What differs from the authors' code: one kernel smooths both densities, so that
smoothing alone makes no difference between them; candidates of equal fitness at the border of the best count in part;
and what chance alone makes of D in so few candidates is taken off (the mean over permuted fitnesses, as in Altmann et
al. 2010, Bioinformatics 26:1340). Whether a gene stands out at all is decided with regard to their number, by the
largest of all genes under permutation (Westfall and Young 1993, "Resampling-Based Multiple Testing").

Genes that a search moved together cannot be told apart by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BEST_SHARE = 0.2
"""The candidates that count as the best. The paper takes a tenth; of a hundred candidates those would be ten."""

FEWEST = 30
"""With fewer candidates in which a gene is awake, nothing is said about it: the best would be fewer than six."""

N_BINS = 50
"""Into how many bins the range of a number is divided, as in the paper."""

_LEVEL = 0.95


@dataclass(frozen=True)
class GeneShare:
    """What one gene explains.

    Attributes:
        share: of what all genes explain beyond chance, from 0 to 1; NaN: too few candidates to say, or no gene explains
            anything.
        low, high: 95 % interval of the share, by bootstrap over candidates; NaN where the share is.
        divergence: Pearson divergence between the best and all, with what chance makes of it; NaN with too few.
        stands_out: whether it is beyond what chance makes of the largest of all genes in one of twenty searches.
        n: in how many candidates it was awake.
    """

    share: float
    low: float
    high: float
    divergence: float
    stands_out: bool
    n: int


def gene_importance(
    points: NDArray[np.float64],
    fitness: NDArray[np.float64],
    kinds: Sequence[int],
    *,
    best_share: float = BEST_SHARE,
    rounds: int = 200,
    seed: int = 0,
) -> list[GeneShare]:
    """Return how much each gene explains of whether a candidate is among the best.

    Args:
        points: `(n_candidates, n_genes)` in [0, 1], where the values of integers and choices are equal bins
            (`Gene.unit`); NaN where a gene sleeps. A gene is judged among the candidates in which it is awake, and
            counts in proportion to their number. Twins should be left out, since they tell nothing new.
        fitness: `(n_candidates,)`, larger is better; NaN: the candidate failed, which is as bad as any.
        kinds: of the genes: 0 for a float, n for an integer with n values, -n for a choice of n (`Space.kinds`).
        best_share: the share of the candidates that are the best, above 0 and below 1.
        rounds: how many bootstrap samples, and how many permutations.
        seed: of the generator that draws them.

    Raises:
        ValueError: if the shapes do not fit each other.
    """
    n, n_genes = points.shape
    if fitness.shape != (n,) or len(kinds) != n_genes:
        raise ValueError(
            f"expected a fitness for each of {n} candidates and a kind for each of {n_genes} genes, but came "
            f"{fitness.shape[0]} and {len(kinds)}"
        )
    generator = np.random.default_rng(seed)
    ranks = np.unique(np.where(np.isfinite(fitness), -fitness, np.inf), return_inverse=True)[1]  # 0: the best
    genes = [_Gene(points[:, i], kind, best_share) for i, kind in enumerate(kinds)]
    known = np.array([gene.n >= FEWEST and gene.varies for gene in genes], dtype=bool)
    found = np.full(n_genes, np.nan)
    resampled, by_chance = np.zeros((rounds, n_genes)), np.zeros((rounds, n_genes))
    for rows, together in _awake_together(genes, known):
        size = len(rows)
        of_all = np.ones((1, size))
        of_best = _best_weights(ranks[rows], of_all, best_share)
        counts = generator.multinomial(size, np.full(size, 1.0 / size), size=rounds).astype(np.float64)
        best_counts = _best_weights(ranks[rows], counts, best_share)
        shuffled = of_best[0][np.stack([generator.permutation(size) for _ in range(rounds)])]
        for i in together:
            found[i] = genes[i].divergence(of_best, of_all)[0]
            resampled[:, i] = genes[i].divergence(best_counts, counts)
            by_chance[:, i] = genes[i].divergence(shuffled, of_all)
    chance = by_chance.mean(axis=0)
    awake = np.array([gene.n / n if n else 0.0 for gene in genes])
    beyond = np.where(known, np.clip(np.nan_to_num(found) - chance, 0.0, None), 0.0) * awake
    # A sample drawn with replacement has more noise than its origin; what that adds on the average is taken off.
    spread = (resampled - resampled.mean(axis=0) + np.nan_to_num(found) - chance).clip(0.0, None) * awake
    low, high = _interval(spread, known)
    scale = np.where(by_chance.std(axis=0) > 0.0, by_chance.std(axis=0), np.inf)
    limit = float(np.quantile(((by_chance - chance) / scale).max(axis=1, initial=-np.inf), _LEVEL))
    total = float(beyond.sum())
    return [
        GeneShare(
            share=float(beyond[i] / total) if known[i] and total > 0.0 else math.nan,
            low=float(low[i]) if total > 0.0 else math.nan,
            high=float(high[i]) if total > 0.0 else math.nan,
            divergence=float(found[i]),
            stands_out=bool(known[i] and (found[i] - chance[i]) / scale[i] > limit),
            n=genes[i].n,
        )
        for i in range(n_genes)
    ]


def _interval(spread: NDArray[np.float64], known: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the intervals of shares, of the `(rounds, n_genes)` divergences of bootstrap samples."""
    totals = spread.sum(axis=1, keepdims=True)
    shares = np.divide(spread, totals, out=np.zeros_like(spread), where=totals > 0.0)
    low, high = np.quantile(shares, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


class _Gene:
    """The values of one gene, in bins that are smoothed."""

    def __init__(self, values: NDArray[np.float64], kind: int, best_share: float) -> None:
        self.rows = np.flatnonzero(np.isfinite(values))
        values = values[self.rows]
        self._n_bins = min(abs(kind), N_BINS) if kind else N_BINS
        self._bins = np.minimum((values * self._n_bins).astype(np.int64), self._n_bins - 1)
        self._kernel = np.eye(self._n_bins) if kind < 0 else _kernel(values, self._n_bins, best_share)

    @property
    def n(self) -> int:
        """In how many candidates it is awake."""
        return len(self.rows)

    @property
    def varies(self) -> bool:
        """Whether it has two values at least."""
        return len(np.unique(self._bins)) > 1

    def divergence(self, of_best: NDArray[np.float64], of_all: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the Pearson divergences of the best from all, `(rounds,)`.

        Args:
            of_best: `(rounds, n)`, how much of each candidate in which the gene is awake is among the best.
            of_all: `(rounds or 1, n)`, how often each of them is in the sample.
        """
        p, q = self._density(of_best), self._density(of_all)
        ratio = np.divide(p, q, out=np.ones_like(p), where=q > 0.0)
        return np.asarray(((ratio - 1.0) ** 2 * q).sum(axis=1))

    def _density(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        rounds = len(weights)
        places = (np.arange(rounds)[:, None] * self._n_bins + self._bins).ravel()
        sums = np.bincount(places, weights.ravel(), rounds * self._n_bins).reshape(rounds, self._n_bins)
        totals = sums.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0.0) @ self._kernel)


def _awake_together(genes: Sequence[_Gene], known: NDArray[np.bool_]) -> list[tuple[NDArray[np.int64], list[int]]]:
    """Return the rows in which genes are awake, each with the genes that are awake in just these."""
    found: dict[bytes, tuple[NDArray[np.int64], list[int]]] = {}
    for i in np.flatnonzero(known).tolist():
        found.setdefault(genes[i].rows.tobytes(), (genes[i].rows, []))[1].append(i)
    return list(found.values())


def _best_weights(ranks: NDArray[np.int64], counts: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return how much of each candidate is among the best, `(rounds, n)`: equally good ones at the border in part.

    Args:
        ranks: `(n,)`, 0: the best; equal ones are equally good.
        counts: `(rounds, n)`, how often each candidate is in the sample.
        share: the part of the sample that is the best.
    """
    order = np.argsort(ranks, kind="stable")
    starts = np.flatnonzero(np.diff(ranks[order], prepend=-1))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    taken = np.clip(share * counts.sum(axis=1, keepdims=True) - (np.cumsum(sizes, axis=1) - sizes), 0.0, sizes)
    part = np.divide(taken, sizes, out=np.zeros_like(taken), where=sizes > 0.0)
    place = np.empty(len(ranks), dtype=np.int64)
    place[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(ranks)))
    return np.asarray(counts * part[:, place])


def _kernel(values: NDArray[np.float64], n_bins: int, share: float) -> NDArray[np.float64]:
    """Return the `(n_bins, n_bins)` Gaussian kernel of a number, whose rows sum to 1 within the range.

    Its width is that of Scott's rule (1992, "Multivariate Density Estimation") for as many values as the best are.
    """
    if len(values) < 2:
        return np.eye(n_bins)
    low, high = np.quantile(values, [0.25, 0.75])
    spread = min(float(values.std(ddof=1)), float(high - low) / 1.34 or math.inf)
    width = max(1.06 * spread * max(share * len(values), 1.0) ** -0.2, 0.25 / n_bins)
    centres = (np.arange(n_bins) + 0.5) / n_bins
    kernel = np.exp(-0.5 * ((centres[:, None] - centres[None, :]) / width) ** 2)
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True))
