"""What a new model may be like: a sample of possible models ("atoms"), each a chance of success on every item.

A normal prior on ability does not describe real models: they come in families, and a fine-tune or merge fails where its
relatives fail. So the prior is a sample, and Bayes' rule over it is a weighted vote. Its atoms are

- the calibration models themselves, between their IRT prediction and their own answers (`OWN`);
- blends of two calibration models with a normal deviation in ability, which fill the gaps between few models;
- models better than all of these: the best calibration models, raised by some logits. Merges are searched for because
  they are better than what is known, and a prior that ends at the best known model cannot say so (`beyond`);
- where the parents of a target are known, blends of the parents, which solve and fail the items that they do.

This is p-IRT (Maia Polo et al. 2024) with a nonparametric prior (Laird 1978) in place of a point estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evomerge.estimation.irt import IRT, map_ability, sigmoid
from evomerge.estimation.responses import Floats, Responses

OWN = 0.3
"""How far an atom follows the answers of its model rather than the IRT prediction. With 0.3, a merge whose parents all
fail an item with an IRT prediction of .3 solves it with probability .2, near that of real merges (.18)."""
EDGE = 0.015
"""How far chances stay from 0 and 1, so that no single answer rules out an atom."""
BLENDS = 2000
"""The least number of atoms; blends make up for missing calibration models."""
BLEND_MASS = 300.0
"""How many calibration models all blends together weigh as much as."""
WIDTHS = (0.15, 0.3, 0.6)
"""Possible deviations of a merge from the blends of its parents, in units of ability; the answers show which fits."""
POPULATION_WIDTHS = (0.3, 0.6)

BEYOND_ATOMS = 500
BEYOND_SHARE, BEYOND_FEW, BEYOND_HALF = 0.2, 0.3, 40.0
"""Prior mass of models that are better than the best known ones, with very many calibration models; what is added to it
with very few, whose best one is no bound; and with how many half of that is added."""
BEYOND_LOGITS = 1.0
"""By how much they are raised on average; the height is exponential, so few are raised by three times that."""
BEYOND_FROM = 0.25
"""The part of the calibration models, the best ones, that are raised."""
LEAST_SPREAD = 0.3
"""Scores of calibration models that spread less than so many logits do not show in which direction ability grows."""

Singles = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Atoms:
    """A discrete prior over models.

    Attributes:
        P: `(n_atoms, n_items)` chances of success.
        log_mass: `(n_atoms,)` log of the prior weights; they sum to 1.
        rows: `(n_atoms, 2)` the calibration rows from which an atom was made; -1: none.
    """

    P: Singles
    log_mass: Singles
    rows: NDArray[np.int64]

    @cached_property
    def logs(self) -> tuple[Singles, Singles]:
        """The logarithms of the chances of success and of failure, each `(n_atoms, n_items)`."""
        return np.log(self.P), np.log1p(-self.P)

    def and_these(self, other: Atoms, share: float) -> Atoms:
        """Return the atoms of both, in which the `other` ones have the given share of the mass."""
        return Atoms(
            np.concatenate([self.P, other.P]),
            np.concatenate([self.log_mass + np.float32(np.log1p(-share)), other.log_mass + np.float32(np.log(share))]),
            np.concatenate([self.rows, other.rows]),
        )


def completed(R: Floats, p: Floats) -> Floats:
    """Return responses with a prediction in each gap."""
    return np.where(np.isnan(R), p, R)


def _bounded(P: Floats) -> Singles:
    return np.clip(P, EDGE, 1 - EDGE).astype(np.float32)


def population(irt: IRT, R: Floats, rng: np.random.Generator) -> Atoms:
    """Return atoms for a model like the calibration models, whose `(n_models, n_items)` responses `R` fitted `irt`."""
    m, D = irt.theta.shape
    P = irt.probability(irt.theta)
    own = _bounded((1 - OWN) * P + OWN * completed(R, P))
    rows = np.stack([np.arange(m), np.full(m, -1)], 1)
    J = max(BLENDS - m, BLENDS // 4)
    pair = rng.integers(m, size=(J, 2))
    share = rng.random((J, 1))
    width = rng.choice(POPULATION_WIDTHS, size=(J, 1))
    ability = share * irt.theta[pair[:, 0]] + (1 - share) * irt.theta[pair[:, 1]]
    blend = _bounded(irt.probability(ability + width * rng.standard_normal((J, D))))
    real = m / (m + BLEND_MASS)
    mass = np.concatenate([np.full(m, real / m), np.full(J, (1 - real) / J)])
    among = Atoms(np.concatenate([own, blend]), np.log(mass).astype(np.float32), np.concatenate([rows, pair]))
    share = BEYOND_SHARE + BEYOND_FEW * BEYOND_HALF / (BEYOND_HALF + m)
    return among.and_these(beyond(irt, completed(R, P).mean(1), rng), share)


def beyond(irt: IRT, score: Floats, rng: np.random.Generator) -> Atoms:
    """Return atoms for models that are better than the best calibration models.

    Half of them are raised alike on all items, half along the direction in which the abilities of better calibration
    models lie, so that items that tell better models from worse ones rise more. Real models are in between.

    Args:
        irt: the item parameters.
        score: `(n_models,)` mean scores of the calibration models.
        rng: the source of all draws.
    """
    m, D = irt.theta.shape
    z = np.log(np.clip(score, 0.01, 0.99) / (1 - np.clip(score, 0.01, 0.99)))
    spread = max(float(z.var()), LEAST_SPREAD**2)
    upward = (irt.theta - irt.theta.mean(0)).T @ (z - z.mean()) / (m * spread)  # (n_dims,) abilities a logit
    best = np.argsort(-score, kind="stable")[: max(2, int(np.ceil(BEYOND_FROM * m)))]
    base = rng.choice(best, size=BEYOND_ATOMS)
    width = rng.choice(POPULATION_WIDTHS, size=(BEYOND_ATOMS, 1))
    height = rng.exponential(BEYOND_LOGITS, size=(BEYOND_ATOMS, 1))
    ability = irt.theta[base] + width * rng.standard_normal((BEYOND_ATOMS, D))
    alike = rng.random((BEYOND_ATOMS, 1)) < 0.5
    logit = ability @ irt.a.T - irt.b + np.where(alike, height, height * (irt.a @ upward))
    mass = np.full(BEYOND_ATOMS, -np.log(BEYOND_ATOMS), dtype=np.float32)
    return Atoms(_bounded(sigmoid(logit)), mass, np.stack([base, base], 1))


def kin(irt: IRT, parents: Floats, count: int, rng: np.random.Generator, rows: Sequence[int] = ()) -> Atoms:
    """Return atoms for a merge of parents: blends with weights drawn uniformly, and deviations of several widths.

    Args:
        irt: the item parameters; the parents' abilities are estimated from their responses.
        parents: `(n_parents, n_items)` responses; NaN: unknown.
        count: how many atoms.
        rng: the source of weights and deviations.
        rows: the calibration rows that are these parents, so that their atoms can be left out.
    """
    k, D = len(parents), irt.dimension
    ability, _ = map_ability(irt, parents)
    responses = completed(parents, irt.probability(ability))
    weight = rng.dirichlet(np.ones(k), size=count)
    width = rng.choice(WIDTHS, size=(count, 1))
    drawn = weight @ ability + width * rng.standard_normal((count, D))
    P = _bounded((1 - OWN) * irt.probability(drawn) + OWN * (weight @ responses))
    origin = np.full((count, 2), -1, dtype=np.int64)
    for column, row in enumerate(rows[:2]):
        origin[:, column] = row
    return Atoms(P, np.full(count, -np.log(count), dtype=np.float32), origin)


def families(models: Sequence[str]) -> NDArray[np.int64]:
    """Return a number for each model, `(n_models,)`: equal for one author's ("author/model"), else different."""
    numbers: dict[str, int] = {}
    keys = [name.split("/")[0] if "/" in name else f"/{name}" for name in models]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def rows_of(parents: Responses) -> Floats:
    """Return the `(n_parents, n_items)` rows of the parents that have a response."""
    return np.asarray(parents.scores[~np.isnan(parents.scores).all(1)])
