"""mp-IRT and gmp-IRT (Mencattini et al. 2025, MERGE³): the ability of a merge is a combination of its parents'."""

from __future__ import annotations

import numpy as np

from evomerge.errors import EstimationError
from evomerge.estimation.base import Estimate, Mask, Parents, Seen
from evomerge.estimation.irt import map_ability, sigmoid
from evomerge.estimation.pirt import GPIRT, PIRT, prediction
from evomerge.estimation.prior import rows_of
from evomerge.estimation.responses import Floats


class MPIRT(PIRT):
    """mp-IRT: theta = sum_k lambda_k theta_k, with the lambda that is most likely given the answers (their eq. 5).

    Args:
        dimension: of the IRT model.
        convex: whether lambda lies on the simplex, as for a merge that interpolates; otherwise it is free, with a
            normal prior N(1/K, 1) for K parents.
    """

    def __init__(self, *, dimension: int | None = None, convex: bool = False) -> None:
        super().__init__(dimension=dimension)
        self._convex = convex

    def estimate(
        self, seen: Floats, *, pool: Mask | None = None, parents: Parents | None = None, weights: Floats | None = None
    ) -> Estimate:
        """Estimate targets; a target whose parents are not known is estimated by p-IRT.

        Raises:
            EstimationError: if there are not as many entries of parents as targets, or `seen` is wrong.
        """
        del weights
        if parents is not None and len(parents) != len(seen):
            raise EstimationError(f"{len(seen)} targets need as many entries of parents; got {len(parents)}")
        answers = Seen.of(seen, pool, len(self.irt.items))
        theta, cov = self.abilities(np.where(answers.asked, seen, np.nan))
        for target, known in enumerate(parents or ()):
            if known is None or not len(rows := rows_of(known.of_items(self.irt.items))):
                continue
            ability, _ = map_ability(self.irt, rows)
            combined, spread = self._combination(answers, target, ability)
            theta[target], cov[target] = combined, spread
        return prediction(self.irt, answers, theta, cov)

    def _combination(self, answers: Seen, target: int, ability: Floats) -> tuple[Floats, Floats]:
        """Return the combined ability `(n_dims,)` and its covariance `(n_dims, n_dims)`.

        They are found by Newton's method or, on the simplex, by exponentiated gradient.
        """
        asked = answers.asked[target]
        X = self.irt.a[asked] @ ability.T  # (n, n_parents): the logit's slope in lambda
        y, b = answers.y[target, asked], self.irt.b[asked]
        K = len(ability)
        weight = np.full(K, 1 / K)
        for _ in range(200 if self._convex else 50):
            p = sigmoid(X @ weight - b)
            gradient = X.T @ (y - p)
            if self._convex:
                # The step is bounded by the curvature, so that the likelihood never falls.
                rate = 1 / max(0.25 * float((X**2).sum(0).max()), 1e-9)
                logs = np.log(np.maximum(weight, 1e-12)) + rate * gradient
                weight = np.exp(logs - logs.max())
                weight /= weight.sum()
            else:
                move = np.linalg.solve((X.T * (p * (1 - p))) @ X + np.eye(K), gradient - (weight - 1 / K))
                weight = weight + move * min(1.0, 1 / max(float(np.abs(move).max()), 1e-12))
        p = sigmoid(X @ weight - b)
        precision = (X.T * (p * (1 - p))) @ X + np.eye(K)
        # A merge may be none of its parents' combinations, so the spread within families is added.
        return weight @ ability, ability.T @ np.linalg.inv(precision) @ ability + self._kin_cov


def convex_mpirt(*, dimension: int | None = None) -> MPIRT:
    """mp-IRT with the weights of the parents on the simplex."""
    return MPIRT(dimension=dimension, convex=True)


class GMPIRT(GPIRT, MPIRT):
    """gmp-IRT: a mean of the answers and mp-IRT, mixed as in gp-IRT (their eq. 7, with c estimated instead of 0.5).

    The order of the bases matters: `GPIRT` mixes the mean with the next class, here `MPIRT`.
    """

    def __init__(self, *, dimension: int | None = None, convex: bool = False) -> None:
        MPIRT.__init__(self, dimension=dimension, convex=convex)
