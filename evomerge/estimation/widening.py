"""How much wider than the posterior's own an interval must be: measured on calibration models, by distance.

A posterior over known models and their blends is too sure of itself, and more so for a model unlike all of them. How
unlike one is shows in its answers: the Bayes factor of "a blend" against "one of the known models", which share their
mistakes with their relatives. So calibration models are estimated in two situations, half of the weight each:

- **with kin**: without the models of their own author, whose relatives by other authors stay;
- **without kin**: without all models that make the same mistakes. The models are divided by their residuals, what their
  answers have beyond the item response model, into a few clusters, and each is estimated from the others.

What their errors are in units of the posterior's deviation is fitted as a power of that Bayes factor, and the power
is multiplied so that nine in ten intervals hold (split conformal prediction with a normalized score: Papadopoulos et
al., ECML 2002; Lei et al., JASA 113:1094, 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from evomerge.estimation.responses import Floats

USUAL = 1.6
"""The usual factor with fifty calibration models; a measured one is drawn towards it."""
USUAL_COUNTS = 20
"""As many models with just the usual factor are added to the measured ones, since the tail of few is uncertain."""
LEVEL = 0.9
"""The intervals of this level are those that are fitted."""
_RIDGE = 10.0
"""Holds the power near zero where little is measured; in units of models."""
_FURTHEST = 2.5
"""Distances beyond so many deviations from the mean count as that: nothing was measured there."""
_LARGEST = 9.0
"""Squared errors beyond so many variances count as that while the power is fitted."""


@dataclass(frozen=True)
class Widening:
    """The factor on standard errors: `factor * exp(power * (distance - mean) / deviation)`.

    Attributes:
        factor: at the mean distance.
        power: how its logarithm grows with the distance, from 0: never narrower for a model that is further away.
        mean: of the distances that were measured.
        deviation: of the distances that were measured, above 0.
    """

    factor: float
    power: float = 0.0
    mean: float = 0.0
    deviation: float = 1.0

    def of(self, distance: Floats) -> Floats:
        """Return the `(n_targets,)` factors for their distances."""
        units = np.clip((distance - self.mean) / self.deviation, -_FURTHEST, _FURTHEST)
        return np.asarray(self.factor * np.exp(self.power * units))


def fit_widening(off: Floats, distance: Floats, weight: Floats) -> Widening:
    """Fit the factor to models whose scores are known.

    Args:
        off: `(n_models,)` |estimate - truth| / standard error; at least one model.
        distance: `(n_models,)` of each.
        weight: `(n_models,)` how much each counts; they sum to the number of models.
    """
    mean, deviation = float(np.average(distance, weights=weight)), float(distance.std())
    deviation = max(deviation, 1e-9)
    units = np.clip((distance - mean) / deviation, -_FURTHEST, _FURTHEST)
    # off ~ |N(0, exp(level + power * units)^2)|, by Newton's method.
    level, power = 0.5 * float(np.log(np.average(off**2, weights=weight) + 1e-9)), 0.0
    for _ in range(50):
        u = np.minimum(off**2 * np.exp(-2.0 * (level + power * units)), _LARGEST)
        gradient = np.array([(weight * (u - 1.0)).sum(), (weight * (u - 1.0) * units).sum() - _RIDGE * power])
        bent = weight * np.maximum(u, 0.3)
        cross = 2.0 * (bent * units).sum()
        curvature = [[2.0 * bent.sum(), cross], [cross, 2.0 * (bent * units**2).sum() + _RIDGE]]
        step = np.clip(np.linalg.solve(np.array(curvature), gradient), -0.5, 0.5)
        level, power = level + float(step[0]), power + float(step[1])
    power = max(power, 0.0)
    factor = weighted_quantile(off / np.exp(power * units), weight, LEVEL) / NormalDist().inv_cdf(0.5 + LEVEL / 2)
    n = len(off)
    drawn = (n * np.log(max(factor, 0.5)) + USUAL_COUNTS * np.log(USUAL)) / (n + USUAL_COUNTS)
    return Widening(float(np.exp(drawn)), power * n / (n + USUAL_COUNTS), mean, deviation)


def weighted_quantile(values: Floats, weight: Floats, level: float) -> float:
    """Return the least value below or at which the given share of the weight lies."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order]) >= level * weight.sum() - 1e-12
    return float(values[order][np.flatnonzero(reached)[0]])


def clusters_of(residuals: Floats, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Divide models into at most `n` clusters by the direction of their residuals (spherical k-means).

    Args:
        residuals: `(n_models, n_items)`; 0 where there is none.
        n: how many clusters.
        rng: draws the first centres, far from each other.

    Returns:
        `(n_models,)` numbers of the clusters; some numbers may be missing.
    """
    length = np.linalg.norm(residuals, axis=1, keepdims=True)
    directions = np.divide(residuals, length, out=np.zeros_like(residuals), where=length > 0)
    centres = [int(rng.integers(len(directions)))]
    nearest = directions @ directions[centres[0]]
    while len(centres) < min(n, len(directions)):
        apart = np.maximum(1.0 - nearest, 0.0)
        total = apart.sum()
        centres.append(int(rng.choice(len(directions), p=apart / total if total > 0 else None)))
        nearest = np.maximum(nearest, directions @ directions[centres[-1]])
    centre = directions[centres].copy()
    label = np.full(len(directions), -1)
    for _ in range(30):
        before, label = label, (directions @ centre.T).argmax(axis=1)
        if (label == before).all():
            break
        for k in np.unique(label):
            total = directions[label == k].sum(axis=0)
            centre[k] = total / max(float(np.linalg.norm(total)), 1e-12)
    return label
