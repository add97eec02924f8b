"""A search without models: candidates whose answers follow what real merges and their parents answered.

The rows of real parents (Open LLM Leaderboard, GSM8K, 552 items) are taken as they are. A candidate at the point x of
the unit cube answers item i rightly where

    theta(x) + w_0 + w_1 share_i + e_i + l_i . u(x) + z_i(x) > 0

with share_i the part of its parents that is right on the item, e_i the item's own easiness, l_i . u(x) what makes
candidates good at different items, and z_i(x) a field over the cube with the deviation of a logistic: neighbours give
the same answers, as neighbouring merges do, so a search can learn items by heart. theta is a smooth hill with a rough
surface. w and the spread of e are fitted to the real merges among the models (`fit`); the rest are settings.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_PROBIT = 1.702  # logistic(x) is close to Phi(x / 1.702)


@dataclass(frozen=True)
class Law:
    """What real merges say: intercept, slope of the parents' share of right answers, spread of items and abilities."""

    intercept: float
    slope: float
    item_spread: float
    ability_spread: float


@dataclass(frozen=True)
class Settings:
    """What no data says.

    Attributes:
        genes: dimensions of the cube.
        height: of the hill above the start, in logits.
        width: distance from the top at which the hill has fallen by its height, as a share of the cube's side (for each
            gene alike).
        rough: deviation of the surface's ripples, in logits.
        mixed: deviation of what makes candidates good at different items.
        length: over which answers change, as a share of the cube's side.
    """

    genes: int = 8
    height: float = 2.0
    width: float = 0.3
    rough: float = 0.2
    mixed: float = 0.5
    length: float = 0.25


def load(folder: Path) -> tuple[np.ndarray, list[str], list[dict]]:
    """Return the GSM8K part of the leaderboard's matrix, its models, and the merges with their parents."""
    with np.load(folder / "responses" / "leaderboard_gsm8k_arc.npz", allow_pickle=True) as data:
        gsm8k = data["benchmark"] == "gsm8k"
        matrix, models = data["R"][:, gsm8k], [str(name) for name in data["models"]]
    merges = json.loads((folder / "responses" / "merges_with_parents.json").read_text())
    return matrix, models, merges


def fit(matrix: np.ndarray, models: list[str], merges: list[dict]) -> Law:
    """Fit the law to the merges: logistic regression with an ability per merge and a spread of items."""
    row = {name: index for index, name in enumerate(models)}
    shares, answers, who, which = [], [], [], []
    for number, merge in enumerate(merges):
        parents = [row[name] for name in merge["parents"] if name in row]
        if merge["model"] not in row or not parents:
            continue
        known = (matrix[[row[merge["model"]], *parents]] >= 0).all(axis=0)
        shares.append(matrix[parents][:, known].mean(axis=0))
        answers.append(matrix[row[merge["model"]], known].astype(float))
        who.append(np.full(known.sum(), number))
        which.append(np.flatnonzero(known))
    share, y = np.concatenate(shares), np.concatenate(answers)
    groups, items = np.concatenate(who), np.concatenate(which)
    members = np.unique(groups)
    one_hot = (groups[:, None] == members[None]).astype(float)
    design = np.column_stack([one_hot, share])
    beta = np.zeros(design.shape[1])
    easiness, spread = np.zeros(matrix.shape[1]), 1.0
    for _ in range(60):
        eta = design @ beta + easiness[items]
        p = 1.0 / (1.0 + np.exp(-eta))
        w = np.maximum(p * (1.0 - p), 1e-6)
        left = (design * w[:, None]).T @ design + 1e-3 * np.eye(design.shape[1])
        beta = beta + np.linalg.solve(left, design.T @ (y - p) - 1e-3 * beta)
        eta = design @ beta + easiness[items]
        p = 1.0 / (1.0 + np.exp(-eta))
        w = np.maximum(p * (1.0 - p), 1e-6)
        information = np.bincount(items, w, matrix.shape[1])
        easiness += (np.bincount(items, y - p, matrix.shape[1]) - easiness / spread**2) / (information + spread**-2)
        seen = information > 0
        spread = math.sqrt(float((easiness**2 + 1.0 / (information + spread**-2))[seen].mean()))
    abilities = beta[:-1]
    return Law(float(abilities.mean()), float(beta[-1]), spread, float(abilities.std()))


class World:
    """One landscape with its parents and items; the same seed gives the same world.

    Args:
        parents: `(n_parents, n_items)` their answers.
        law: see `fit`.
    """

    def __init__(self, parents: np.ndarray, law: Law, settings: Settings, seed: int) -> None:
        rng = np.random.default_rng([seed, 77])
        self.parents, self.settings = parents.astype(float), settings
        n, d = parents.shape[1], settings.genes
        self.n_items = n
        share = self.parents.mean(axis=0)
        features = 96
        self._omega = rng.normal(0.0, 1.0 / (settings.length * math.sqrt(d)), (features, d))
        self._phase = rng.uniform(0.0, 2.0 * math.pi, features)
        self._field = rng.normal(0.0, _PROBIT, (n, features)) * math.sqrt(2.0 / features)
        self._loadings = rng.normal(0.0, settings.mixed, (n, 2))
        self._ways = rng.normal(0.0, math.sqrt(2.0 / features), (2, features))
        self._ripples = rng.normal(0.0, settings.rough * math.sqrt(2.0 / features), features)
        self._easiness = law.slope * share + rng.normal(0.0, law.item_spread, n)
        self.top = 0.5 + rng.choice([-1.0, 1.0], d) * rng.uniform(0.15, 0.4, d)
        self._level = law.intercept
        # Items that no search sees: the same law for the same shares, averaged over what makes items differ.
        self._fresh = law.slope * rng.choice(share, 4000) + rng.normal(0.0, law.item_spread, 4000)
        self._fresh_loadings = rng.normal(0.0, settings.mixed, (4000, 2))

    def answers(self, x: np.ndarray) -> np.ndarray:
        """Return the `(n_items,)` answers of the candidate at x, 0 or 1."""
        waves = np.cos(self._omega @ x + self._phase)
        way = self._ways @ waves
        return (self._ability(x, waves) + self._easiness + self._loadings @ way + self._field @ waves > 0).astype(float)

    def worth(self, x: np.ndarray) -> float:
        """Return the probability that the candidate at x is right on an item that no search sees."""
        waves = np.cos(self._omega @ x + self._phase)
        eta = self._ability(x, waves) + self._fresh + self._fresh_loadings @ (self._ways @ waves)
        return float((1.0 / (1.0 + np.exp(-eta))).mean())

    def validation(self, x: np.ndarray, n: int, seed: int) -> np.ndarray:
        """Return the answers of the candidate at x to the first n items that no search sees."""
        waves = np.cos(self._omega @ x + self._phase)
        eta = self._ability(x, waves) + self._fresh[:n] + self._fresh_loadings[:n] @ (self._ways @ waves)
        noise = np.random.default_rng([seed, *np.float64(x).view(np.uint32)]).logistic(size=n)
        return (eta > noise).astype(float)

    def _ability(self, x: np.ndarray, waves: np.ndarray) -> float:
        s = self.settings
        distance = float(((x - self.top) ** 2).mean())
        return self._level + 0.5 * s.height - s.height * distance / s.width**2 + float(self._ripples @ waves)
