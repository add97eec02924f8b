"""p-IRT and gp-IRT (Maia Polo et al. 2024, tinyBenchmarks): answers where there are any, the IRT model elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evomerge.estimation.base import Estimate, Mask, Parents, Seen
from evomerge.estimation.irt import IRT, fit_irt, map_ability
from evomerge.estimation.mixture import default_dimension
from evomerge.estimation.prior import families, rows_of
from evomerge.estimation.responses import Floats, Responses


class PIRT:
    """p-IRT: tau times the mean of the answers plus (1 - tau) times the mean prediction of the open items (eq. 4.2).

    The prior of the ability is normal. It is that of the calibration models; where the parents of a target are known,
    it lies around the mean of their abilities and is as wide as the abilities within a family of calibration models.
    The standard error has two parts: Laplace's posterior of the ability, and the chance in each open answer.
    """

    def __init__(self, *, dimension: int | None = None, use_parents: bool = True) -> None:
        self._dimension = dimension
        self._use_parents = use_parents

    def fit(self, calibration: Responses, *, seed: int = 0) -> None:
        """Fit the item parameters."""
        D = self._dimension or default_dimension(calibration.n_models)
        self.irt: IRT = fit_irt(calibration, dimension=D, seed=seed)
        self._kin_cov = within_families(self.irt.theta, families(calibration.models))

    def abilities(self, seen: Floats, parents: Parents | None = None) -> tuple[Floats, Floats]:
        """Return `(n_targets, n_dims)` abilities and `(n_targets, n_dims, n_dims)` posterior covariances."""
        mean, cov = self.irt.population()
        T, D = len(seen), self.irt.dimension
        means, covs = np.tile(mean, (T, 1)), np.tile(cov, (T, 1, 1))
        for target, known in enumerate(parents if parents is not None and self._use_parents else []):
            if known is not None and len(rows := rows_of(known.of_items(self.irt.items))):
                ability, _ = map_ability(self.irt, rows)
                gap = ability - ability.mean(0)
                means[target] = ability.mean(0)
                covs[target] = self._kin_cov + gap.T @ gap / len(rows)
        assert covs.shape == (T, D, D)
        return map_ability(self.irt, seen, means, covs)

    def estimate(
        self, seen: Floats, *, pool: Mask | None = None, parents: Parents | None = None, weights: Floats | None = None
    ) -> Estimate:
        """Estimate targets; `weights` are not used."""
        del weights
        answers = Seen.of(seen, pool, len(self.irt.items))
        theta, cov = self.abilities(np.where(answers.asked, seen, np.nan), parents)
        return prediction(self.irt, answers, theta, cov)


def prediction(irt: IRT, answers: Seen, theta: Floats, cov: Floats) -> Estimate:
    """Return p-IRT's estimate at `(n_targets, n_dims)` abilities with `(n_targets, n_dims, n_dims)` covariances."""
    p = irt.probability(theta)
    spread = np.where(answers.open, p * (1 - p), 0.0)
    slope = spread @ irt.a / answers.size[:, None]  # of the estimate in the ability
    variance = np.einsum("td,tde,te->t", slope, cov, slope) + spread.sum(1) / answers.size**2
    return answers.result(answers.combine(p), np.sqrt(variance))


def within_families(theta: Floats, family: NDArray[np.int64]) -> Floats:
    """Return the `(n_dims, n_dims)` covariance of abilities around the mean of their family.

    It is drawn towards 1/4 where there are few families.
    """
    D = theta.shape[1]
    total, freedom = np.zeros((D, D)), 0
    for number in np.unique(family):
        rows = theta[family == number]
        gap = rows - rows.mean(0)
        total += gap.T @ gap
        freedom += len(rows) - 1
    return np.asarray((total + (D + 1) * 0.25 * np.eye(D)) / (freedom + D + 1))


class GPIRT(PIRT):
    """gp-IRT: c times the (weighted) mean of the answers plus (1 - c) times p-IRT (eq. 4.3).

    c minimises the expected squared error: c = misfit² / (misfit² + variance of the mean). The misfit is the error of
    p-IRT on calibration models when it is told every answer but must predict all of them from abilities.
    """

    def fit(self, calibration: Responses, *, seed: int = 0) -> None:
        """Fit the item parameters and measure the misfit."""
        super().fit(calibration, seed=seed)
        known = ~np.isnan(calibration.scores)
        p = self.irt.probability(self.irt.theta)
        counts = np.maximum(known.sum(1), 1)
        off = (np.where(known, p, 0.0).sum(1) - np.nansum(calibration.scores, 1)) / counts
        self._misfit = float(np.mean(off**2)) + 1e-6

    def estimate(
        self, seen: Floats, *, pool: Mask | None = None, parents: Parents | None = None, weights: Floats | None = None
    ) -> Estimate:
        """Estimate targets; an answer weighs 1 / n where no `weights` are given."""
        answers = Seen.of(seen, pool, len(self.irt.items))
        found = super().estimate(seen, pool=pool, parents=parents)
        w = np.where(answers.asked, 1.0 if weights is None else weights, 0.0)
        total = w.sum(1, keepdims=True)
        w = np.divide(w, total, out=np.zeros_like(w), where=total > 0)
        mean = (w * answers.y).sum(1)
        p = np.clip(found.mean, 0.05, 0.95)
        variance = p * (1 - p) * (w**2).sum(1)
        c = np.where(total[:, 0] > 0, self._misfit / (self._misfit + variance), 0.0)
        c = np.where(answers.open.any(1), c, 0.0)
        se = np.sqrt(((1 - c) * found.se) ** 2 + c**2 * variance)
        return answers.result(c * mean + (1 - c) * found.mean, np.asarray(se))
