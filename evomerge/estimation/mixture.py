"""The default estimator: p-IRT whose prior is a sample of known models, their blends, and blends of the parents."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import EstimationError
from evomerge.estimation.base import Estimate, Mask, Parents
from evomerge.estimation.irt import IRT, fit_irt
from evomerge.estimation.posterior import CHUNK, Posterior, offer
from evomerge.estimation.prior import Atoms, families, kin, population, rows_of
from evomerge.estimation.responses import Floats, Responses
from evomerge.estimation.widening import Widening, clusters_of, fit_widening

KIN_SHARE = 0.5
"""Prior mass of blends of the parents; the rest is for merges that are unlike their parents."""
KIN_ATOMS = 1500
HELD = 96
"""Most calibration models on which the standard errors are checked, in each of two situations."""
REFIT_BELOW = 300
"""With up to so many calibration models every author is held out once, in folds; with more, one part of them."""
REFIT_MOST = 600
"""Most models to which the item parameters are fitted again without a cluster of models."""
FOLDS, CLUSTERS = 5, 4
KEPT_BYTES = 1 << 28
"""Larger priors of the folds are fitted again for each set of items rather than kept."""
KIN_SURE = 0.75
"""How far the posterior's own deviation is trusted where it lies on blends of known parents: real merges needed 0.8 to
1.1 times it with 450 calibration models, and up to 1.5 times with 50, where others needed 1.3 to 1.9."""
LEAST_CHECKED = 20
"""With fewer calibration models nothing is measured."""
UNCHECKED_SCALE = 2.2
"""The factor with fewer than twenty calibration models: real merges of two parents, with up to ten further models,
needed 1.4 to 2.3."""


def default_dimension(n_models: int) -> int:
    """Return how many dimensions so many models can tell apart: 1 below 34, 2 for 50, 4 for 200, 6 from 550 on."""
    return int(np.clip(round(np.log2(max(n_models, 1) / 12)), 1, 6))


class Mixture:
    """Bayes' rule over a sample of possible models (`prior`, `posterior`).

    Standard errors are those of the posterior times a factor (`widening`), which is measured on calibration models that
    are estimated without their own author or without all of their kin, and grows with how unlike all known models a
    target's answers are. Each set of items has its factor.

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
        self._widenings: dict[tuple[str, bytes | int], Widening] = {}
        self._folds: list[_Fold] | None = None
        self._kin: tuple[bytes, Atoms] | None = None

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
        widening = self.widening(seen) if self._calibrate and T else Widening(1.0)
        for some, posterior in self.posteriors(pool, parents):
            posterior.tell(seen[some])
            distance, kin_mass = posterior.distance()
            checked = self.calibration.n_models >= LEAST_CHECKED
            part = posterior.estimate(widening.of(distance) ** (1.0 - KIN_SURE * kin_mass * checked))
            for name in ("mean", "se", "low", "high"):
                getattr(found, name)[some] = getattr(part, name)
        return found

    def offers(self) -> Iterator[NDArray[np.int64] | None]:
        """Yield, for one answer after the other, the items from which the next one is chosen; None: all."""
        rng = np.random.default_rng([self._seed, 4])
        while True:
            yield offer(len(self.irt.items), self.calibration.n_models, rng)

    def widening(self, seen: Floats) -> Widening:
        """Return the factor on standard errors for these answers, to a fixed set of items or chosen for each target."""
        asked = ~np.isnan(seen)
        if not asked.any():
            return Widening(1.0)
        if self.calibration.n_models < LEAST_CHECKED:
            return Widening(UNCHECKED_SCALE)
        # A target may lack some items of a fixed set.
        union = np.asarray(asked.any(0))
        number = int(np.median(asked.sum(1)))
        fixed = union.sum() <= 1.25 * number
        key: tuple[str, bytes | int] = ("fixed", union.tobytes()) if fixed else ("adaptive", number)
        if key not in self._widenings:
            self._widenings[key] = self._measured(union if fixed else None, number)
        return self._widenings[key]

    def _with_kin(self, parents: Responses | None) -> Atoms:
        if parents is None:
            return self.atoms
        rows = rows_of(parents)
        if self._kin is None or self._kin[0] != rows.tobytes():  # in a search all candidates have the same parents
            rng = np.random.default_rng([self._seed, 1])
            self._kin = rows.tobytes(), self.atoms.and_these(kin(self.irt, rows, KIN_ATOMS, rng), KIN_SHARE)
        return self._kin[1]

    def _measured(self, items: NDArray[np.bool_] | None, number: int) -> Widening:
        """Return the factor, from calibration models that are estimated without their author or their kin."""
        parts: dict[bool, list[tuple[Floats, Floats]]] = {True: [], False: []}
        for fold in self._all_folds():
            parts[fold.with_kin].append(self._deviations(fold, items, number))
        off, distance, weight = [np.empty(0)], [np.empty(0)], [np.empty(0)]
        for situation in parts.values():
            n = max(sum(len(one) for one, _ in situation), 1)
            for found, away in situation:
                off, distance, weight = [*off, found], [*distance, away], [*weight, np.full(len(found), 1.0 / n)]
        together = np.concatenate(off)
        if len(together) < 10:
            return Widening(UNCHECKED_SCALE)
        counts = np.concatenate(weight)
        return fit_widening(together, np.concatenate(distance), counts * (len(counts) / counts.sum()))

    def _all_folds(self) -> Iterator[_Fold]:
        """Yield all folds, which are kept for further sets of items where they are small."""
        if self._folds is not None:
            yield from self._folds
            return
        kept: list[_Fold] = []
        size = 0
        for fold in itertools.chain(self._author_folds(), self._cluster_folds()):
            yield fold
            size += fold.atoms.P.nbytes
            kept = [*kept, fold] if size <= KEPT_BYTES else []
        if size <= KEPT_BYTES:
            self._folds = kept

    def _author_folds(self) -> Iterator[_Fold]:
        """Yield calibration models with the prior that is fitted without their authors' models."""
        rng = np.random.default_rng([self._seed, 2])
        n_families = int(self._families.max()) + 1
        if self.calibration.n_models <= REFIT_BELOW:
            fold = rng.permutation(np.arange(n_families) % FOLDS)[self._families]
            for part in range(FOLDS):
                yield from self._fold(np.flatnonzero(fold == part), fold != part, len(fold), with_kin=True)
            return
        order = rng.permutation(n_families)
        whole = np.bincount(self._families[self._usable], minlength=n_families)[order]
        held = np.isin(self._families, order[: int(np.searchsorted(np.cumsum(whole), HELD)) + 1])
        yield from self._fold(np.flatnonzero(held), ~held, HELD, with_kin=True)

    def _cluster_folds(self) -> Iterator[_Fold]:
        """Yield calibration models with the prior that is fitted without all models that make the same mistakes."""
        rng = np.random.default_rng([self._seed, 3])
        R = self.calibration.scores
        residual = np.where(np.isnan(R), 0.0, np.nan_to_num(R) - self.irt.probability(self.irt.theta))
        label = clusters_of(residual, CLUSTERS, rng)
        for part in np.unique(label):
            held = rng.permutation(np.flatnonzero((label == part) & self._usable))[: HELD // CLUSTERS]
            rest = label != part
            spare = rng.permutation(np.flatnonzero(rest))[REFIT_MOST:]
            rest[spare] = False
            yield from self._fold(np.sort(held), rest, HELD // CLUSTERS, with_kin=False)

    @property
    def _usable(self) -> NDArray[np.bool_]:
        """The calibration models that have at least half of the responses, on which errors are checked."""
        return np.asarray((~np.isnan(self.calibration.scores)).mean(1) >= 0.5)

    def _fold(self, held: NDArray[np.int64], rest: NDArray[np.bool_], most: int, *, with_kin: bool) -> Iterator[_Fold]:
        """Yield at most so many usable ones of the held models, with the prior fitted to the rest, if there is one."""
        held = held[self._usable[held]][:most]
        if not len(held) or rest.sum() < 2:
            return
        other = Mixture(dimension=min(self.irt.dimension, int(rest.sum())), calibrate=False)
        other.fit(self.calibration.of_models(np.array(self.calibration.models)[rest]), seed=self._seed)
        yield _Fold(held, other.atoms, with_kin)

    def _deviations(self, fold: _Fold, items: NDArray[np.bool_] | None, number: int) -> tuple[Floats, Floats]:
        """Return |estimate - truth| / standard error of the held models, and their distance from the known ones.

        Args:
            fold: the models and the prior.
            items: `(n_items,)` the items asked; None: they are chosen for each model.
            number: how many items to choose.
        """
        R = self.calibration.scores[fold.held]
        known = ~np.isnan(R)
        posterior = Posterior(replace(fold.atoms), known)  # a copy, whose logarithms are not kept
        if items is not None:
            posterior.tell(np.where(items, R, np.nan))
        else:
            draw = self.offers()
            for _ in range(number):
                chosen = posterior.next_items(next(draw))
                posterior.tell_one(chosen, np.nan_to_num(R[np.arange(len(R)), chosen]))
        found, (distance, _) = posterior.estimate(), posterior.distance()
        truth = np.nansum(R, 1) / known.sum(1)
        open_ones = found.se > 0
        return np.abs(found.mean - truth)[open_ones] / found.se[open_ones], distance[open_ones]


@dataclass(frozen=True)
class _Fold:
    """Calibration models that are estimated without some others, and the prior fitted to those that are left.

    Attributes:
        held: `(n_held,)` rows of the models.
        atoms: the prior.
        with_kin: whether only the models of their own authors were left out.
    """

    held: NDArray[np.int64]
    atoms: Atoms
    with_kin: bool
