"""The default estimator: p-IRT whose prior is a sample of known models, their blends, and blends of the parents."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import EstimationError
from evomerge.estimation.base import Estimate, Mask, Parents
from evomerge.estimation.irt import IRT, fit_irt
from evomerge.estimation.posterior import CHUNK, Posterior
from evomerge.estimation.prior import Atoms, families, kin, population, rows_of
from evomerge.estimation.responses import Floats, Responses

KIN_SHARE = 0.5
"""Prior mass of blends of the parents; the rest is for merges that are unlike their parents."""
KIN_ATOMS = 1500
HELD = 128
"""Most calibration models on which the standard errors are checked."""
REFIT_BELOW = 300
"""Up to so many calibration models, the check refits the item parameters without the models that it holds out."""
FOLDS = 5
USUAL_SCALE = 1.6
"""The usual factor with fifty calibration models; a measured factor is drawn towards it."""
UNCHECKED_SCALE = 2.2
"""The factor with fewer than twenty calibration models: real merges of two parents, with up to ten further models,
needed 1.4 to 2.3."""


def default_dimension(n_models: int) -> int:
    """Return how many dimensions so many models can tell apart: 1 below 34, 2 for 50, 4 for 200, 6 from 550 on."""
    return int(np.clip(round(np.log2(max(n_models, 1) / 12)), 1, 6))


class Mixture:
    """Bayes' rule over a sample of possible models (`prior`, `posterior`).

    Standard errors are those of the posterior times a factor. With this factor, nine in ten intervals hold the truth
    for calibration models that are estimated without the models of their own author. Each set of items has its factor.

    Args:
        dimension: of the IRT model; None: by the number of models (`default_dimension`).
        calibrate: whether to measure that factor, which takes at least 20 models.
    """

    def __init__(self, *, dimension: int | None = None, calibrate: bool = True) -> None:
        self._dimension = dimension
        self._calibrate = calibrate

    def fit(self, calibration: Responses, *, seed: int = 0) -> None:
        """Fit the item parameters and draw the prior.

        Raises:
            EstimationError: if no calibration model has a response.
        """
        asked = ~np.isnan(calibration.scores).all(1)
        if not asked.any():
            raise EstimationError("no calibration model has a response; give models with known scores")
        self._seed = seed
        self.calibration = calibration.of_models(np.array(calibration.models)[asked])
        dimension = self._dimension or default_dimension(self.calibration.n_models)
        self.irt: IRT = fit_irt(self.calibration, dimension=dimension, seed=seed)
        self.atoms: Atoms = population(self.irt, self.calibration.scores, np.random.default_rng(seed))
        self._families = families(self.calibration.models)
        self._scales: dict[tuple[str, bytes | int], float] = {}
        self._folds: list[tuple[NDArray[np.int64], Atoms]] = []

    def posteriors(self, pool: Mask, parents: Parents | None = None) -> Iterator[tuple[NDArray[np.int64], Posterior]]:
        """Yield groups of targets with the same parents: the targets' numbers, and their common `Posterior`.

        The posterior has seen no answers yet.
        """
        groups: dict[tuple[str, ...], list[int]] = {}
        rows: dict[tuple[str, ...], Responses | None] = {}
        for target in range(len(pool)):
            known = parents[target] if parents is not None else None
            if known is not None and known.items != self.irt.items:
                known = known.of_items(self.irt.items)
            if known is not None and not len(rows_of(known)):
                known = None  # parents without an answer are as good as unknown
            key = () if known is None else tuple(sorted(known.models))
            groups.setdefault(key, []).append(target)
            rows[key] = known
        for key, members in groups.items():
            atoms = self._with_kin(rows[key])
            for start in range(0, len(members), CHUNK):
                some = np.array(members[start : start + CHUNK])
                yield some, Posterior(atoms, pool[some])

    def estimate(
        self, seen: Floats, *, pool: Mask | None = None, parents: Parents | None = None, weights: Floats | None = None
    ) -> Estimate:
        """Estimate targets; `weights` are not used."""
        del weights
        pool = np.ones(seen.shape, dtype=bool) if pool is None else pool
        if seen.shape[1:] != (len(self.irt.items),):
            raise EstimationError(f"answers need one column for each of {len(self.irt.items)} items; got {seen.shape}")
        T = len(seen)
        found = Estimate(np.zeros(T), np.zeros(T), np.zeros(T), np.zeros(T))
        scale = self.scale(seen) if self._calibrate and T else 1.0
        for some, posterior in self.posteriors(pool, parents):
            posterior.tell(seen[some])
            part = posterior.estimate(scale)
            for name in ("mean", "se", "low", "high"):
                getattr(found, name)[some] = getattr(part, name)
        return found

    def scale(self, seen: Floats) -> float:
        """Return the factor on standard errors for these answers, to a fixed set of items or chosen for each target."""
        asked = ~np.isnan(seen)
        if not asked.any():
            return 1.0
        if self.calibration.n_models < 20:
            return UNCHECKED_SCALE
        # A target may lack some items of a fixed set.
        union = np.asarray(asked.any(0))
        number = int(np.median(asked.sum(1)))
        fixed = union.sum() <= 1.25 * number
        key: tuple[str, bytes | int] = ("fixed", union.tobytes()) if fixed else ("adaptive", number)
        if key not in self._scales:
            self._scales[key] = self._measured_scale(union if fixed else None, number)
        return self._scales[key]

    def _with_kin(self, parents: Responses | None) -> Atoms:
        if parents is None:
            return self.atoms
        rng = np.random.default_rng([self._seed, 1])
        return self.atoms.and_these(kin(self.irt, rows_of(parents), KIN_ATOMS, rng), KIN_SHARE)

    def _measured_scale(self, items: NDArray[np.bool_] | None, number: int) -> float:
        """Return the factor, from calibration models that are estimated without their own family.

        With many models it suffices to leave out the family's atoms. With few, each model also influences the item
        parameters, which are then fitted again without the family.
        """
        if self.calibration.n_models > REFIT_BELOW:
            rows = self._held(np.random.default_rng([self._seed, 2]))
            off = self._deviations(rows, self.atoms, items, number)
        else:
            parts = [
                self._deviations(held, atoms, items, number, other_families=True) for held, atoms in self._refits()
            ]
            off = np.concatenate([np.empty(0), *parts])
        if len(off) < 10:
            return UNCHECKED_SCALE
        factor = max(np.quantile(off, 0.9) / NormalDist().inv_cdf(0.95), 0.5)
        # The tail of few models is uncertain, so twenty more count that have just the usual factor.
        return float(np.exp((len(off) * np.log(factor) + 20 * np.log(USUAL_SCALE)) / (len(off) + 20)))

    def _held(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the rows of some calibration models that have at least half of the responses."""
        known = ~np.isnan(self.calibration.scores)
        return np.sort(rng.permutation(np.flatnonzero(known.mean(1) >= 0.5))[:HELD])

    def _refits(self) -> list[tuple[NDArray[np.int64], Atoms]]:
        """The rows of each fold of families, and the prior fitted on the other folds; found once."""
        if not self._folds:
            rng = np.random.default_rng([self._seed, 2])
            fold = rng.permutation(np.arange(self._families.max() + 1) % FOLDS)[self._families]
            names = np.array(self.calibration.models)
            for part in range(FOLDS):
                held, rest = np.flatnonzero(fold == part), np.flatnonzero(fold != part)
                if len(held) and len(rest) >= 2:
                    other = Mixture(dimension=min(self.irt.dimension, len(rest)), calibrate=False)
                    other.fit(self.calibration.of_models(names[rest]), seed=self._seed)
                    self._folds.append((held, other.atoms))
        return self._folds

    def _deviations(
        self,
        rows: NDArray[np.int64],
        atoms: Atoms,
        items: NDArray[np.bool_] | None,
        number: int,
        other_families: bool = False,
    ) -> Floats:
        """Return |estimate - truth| / standard error for calibration models.

        Args:
            rows: of the models.
            atoms: the prior.
            items: `(n_items,)` the items asked; None: they are chosen for each model.
            number: how many items to choose.
            other_families: whether the atoms are of other families anyway; if not, those of a model's own are left out.
        """
        R = self.calibration.scores[rows]
        known = ~np.isnan(R)
        prior = np.tile(atoms.log_mass, (len(rows), 1))
        if not other_families:
            family = np.append(self._families, -1)[atoms.rows]  # (n_atoms, 2); -1 is of no family
            prior[(family[None] == self._families[rows][:, None, None]).any(2)] = -np.inf
        usable = np.isfinite(prior).any(1) & known.any(1)
        R, known, prior = R[usable], known[usable], prior[usable]
        posterior = Posterior(atoms, known, prior)
        if items is not None:
            posterior.tell(np.where(items, R, np.nan))
        else:
            for _ in range(number):
                chosen = posterior.next_items()
                posterior.tell_one(chosen, np.nan_to_num(R[np.arange(len(R)), chosen]))
        found = posterior.estimate()
        truth = np.nansum(R, 1) / known.sum(1)
        open_ones = found.se > 0
        return np.asarray(np.abs(found.mean - truth)[open_ones] / found.se[open_ones])
