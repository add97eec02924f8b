"""Bayes' rule over a sample of possible models, and the next item to ask.

For targets t and atoms j with chances P of success, the weights after answers y are

    w_tj ∝ mass_j · prod_i [ P_ji^y_ti (1 - P_ji)^(1 - y_ti) ]^TEMPER

TEMPER is below 1 because answers to several items are not independent given an atom: related models make the same
mistakes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evomerge.estimation.base import Estimate, Mask, Seen
from evomerge.estimation.prior import Atoms
from evomerge.estimation.responses import Floats

TEMPER = 0.85
CHUNK = 256
"""How many targets are handled at a time, which bounds memory at `(CHUNK, n_atoms)`."""
OFFERED = 12
"""How many items a calibration model are offered at a time. The best of many items, as judged by few models, owes its
place to luck: with 20 models, the items of 12,032 that tell them apart best hardly tell others apart."""


def offer(n_items: int, n_models: int, rng: np.random.Generator) -> NDArray[np.int64] | None:
    """Return random items from which the next one is chosen; None: all, because there are models enough.

    Args:
        n_items: how many there are.
        n_models: how many calibration models say what an item's answer tells.
        rng: of the draw.
    """
    n = OFFERED * n_models
    return None if n >= n_items else rng.choice(n_items, n, replace=False)


class Posterior:
    """Weights of atoms for each target, updated answer by answer.

    Args:
        atoms: the prior.
        pool: `(n_targets, n_items)` items whose mean is wanted.
        log_prior: `(n_targets, n_atoms)` a prior for each target instead of the atoms' own; -inf leaves an atom out.
    """

    def __init__(self, atoms: Atoms, pool: Mask, log_prior: NDArray[np.float32] | None = None) -> None:
        T = len(pool)
        self.atoms = atoms
        self.pool = pool
        self.log_prior = np.tile(atoms.log_mass, (T, 1)) if log_prior is None else log_prior
        self._log_right, self._log_wrong = atoms.logs
        self._evidence = np.zeros_like(self.log_prior)
        self._scores: NDArray[np.float32] | None = None  # `(n_targets, n_atoms)` of the atoms over each pool
        self.seen: Floats = np.full(pool.shape, np.nan)

    def tell(self, seen: Floats) -> None:
        """Take all `(n_targets, n_items)` answers at once, in place of earlier ones; NaN: not asked."""
        asked = ~np.isnan(seen)
        y = np.where(asked, seen, 0.0).astype(np.float32)
        wrong = np.where(asked, 1.0 - y, 0.0).astype(np.float32)
        self._evidence = y @ self._log_right.T + wrong @ self._log_wrong.T
        self.seen = np.array(seen, dtype=np.float64)

    def tell_one(self, items: NDArray[np.int64], scores: Floats) -> None:
        """Take one further answer of each target.

        Args:
            items: `(n_targets,)` item numbers; -1: no item.
            scores: `(n_targets,)` their scores.
        """
        told = items >= 0
        y = np.where(told, scores, 0.0).astype(np.float32)[:, None]
        gain = y * self._log_right.T[items] + (1 - y) * self._log_wrong.T[items]
        self._evidence += np.where(told[:, None], gain, 0.0)
        self.seen[told, items[told]] = scores[told]

    def weights(self) -> NDArray[np.float32]:
        """Return the `(n_targets, n_atoms)` weights; each row sums to 1."""
        logs = self.log_prior + np.float32(TEMPER) * self._evidence
        weights = np.exp(logs - logs.max(1, keepdims=True))
        return np.asarray(weights / weights.sum(1, keepdims=True), dtype=np.float32)

    def next_items(self, offered: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return, `(n_targets,)`, the open item whose answer should move the estimate most; -1 where none is open.

        The expected fall of the variance of a target's score F when item i is answered is Var(E[F | y_i]) =
        Cov(F, P_i)^2 / Var(y_i), all under the present weights.

        Args:
            offered: the items to choose from (see `offer`); all open ones where it holds no open item of a target, or
                is None.
        """
        unasked = self.pool & np.isnan(self.seen)
        if offered is None or not unasked[:, offered].any(1).all():
            offered = np.arange(unasked.shape[1])
        unasked, W, P = unasked[:, offered], self.weights(), self.atoms.P
        if self._scores is None:  # the same for every answer
            size = np.maximum(self.pool.sum(1, keepdims=True), 1)
            self._scores = (self.pool.astype(np.float32) @ P.T / size).astype(np.float32)
        if len(offered) < P.shape[1]:
            P = P[:, offered]
        F = self._scores - (W * self._scores).sum(1, keepdims=True)
        p = W @ P
        covariance = (W * F) @ P
        gain = np.where(unasked, covariance**2 / np.maximum(p * (1 - p), 1e-9), -1.0)
        return np.where(unasked.any(1), offered[gain.argmax(1)], -1)

    def distance(self) -> tuple[Floats, Floats]:
        """Return how unlike all known models each target is, and how much it lies on blends of its known parents.

        Returns:
            `(n_targets,)` log Bayes factors of a blend of known models against one of them, and `(n_targets,)`
            posterior masses of atoms that come from parents.
        """
        rows, W = self.atoms.rows, self.weights().astype(np.float64)
        kin = rows[:, 0] < 0
        known = ~kin & (rows[:, 1] < 0)
        before, after = (
            np.log(masses[:, ~kin & ~known].sum(1) + 1e-9) - np.log(masses[:, known].sum(1) + 1e-9)
            for masses in (np.exp(self.log_prior.astype(np.float64)), W)
        )
        return after - before, W[:, kin].sum(1)

    def estimate(self, scale: float | Floats = 1.0) -> Estimate:
        """Return the posterior mean of the score, with its standard deviation times `scale` as the error.

        Args:
            scale: a factor for all targets, or `(n_targets,)` one for each.
        """
        answers = Seen.of(self.seen, self.pool, self.pool.shape[1])
        W, P = self.weights(), self.atoms.P
        open_items = answers.open.astype(np.float32)
        mean = answers.combine((W @ P).astype(np.float64))
        rest = (open_items @ P.T).astype(np.float64)  # (n_targets, n_atoms) expected number of open items solved
        between = np.maximum((W * rest**2).sum(1) - (W * rest).sum(1) ** 2, 0.0)
        within = (W @ (P * (1 - P)) * open_items).sum(1)
        return answers.result(mean, scale * np.sqrt(between + within) / answers.size)
