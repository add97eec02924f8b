"""How able candidates are, as a function of their genomes: a Gaussian process whose cost is linear in the candidates.

    theta(x) = m + f(x) + e        m ~ N(0, level^2)    f ~ GP(0, s^2 exp(-|x - x'|^2 / (2 l^2)))    e ~ N(0, d^2)

An exact process of n candidates solves n equations, in n^3 steps. Here at most `INDUCING` of the candidates carry the
process, and given their values the others are independent: FITC (Snelson and Ghahramani, NIPS 18, 2005; in the words of
Quiñonero-Candela and Rasmussen, JMLR 6:1939, 2005, "fully independent training conditional"). As long as there are no
more candidates than that, the process is the exact one.

Nothing is kept from one fit to the next, so a search that is continued finds what an uninterrupted one did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

INDUCING = 192
"""Most candidates that carry the process. On simulated searches of 1,200 candidates, estimates and ranks were those of
the exact process from 160 on."""
TRIAL = 1200
"""Most candidates by which length, spread and nugget are chosen."""

_LENGTHS = (0.05, 0.1, 0.2, 0.4, 0.8)  # times the root of the number of genes
_SPREADS = (0.25, 0.5, 1.0, 2.0)
_NUGGETS = (0.05, 0.2, 0.5)
_START_SPREAD = 1.5
"""Prior deviation of ability before any candidate was seen."""
_JITTER = 1e-8
"""Added to the correlation of each inducing candidate with itself, since two of them may have one genome."""
_LEAST = 5
"""Fewer candidates say nothing about length, spread and nugget."""


@dataclass(frozen=True)
class _Kernel:
    """Length, spread s and nugget d."""

    length: float = 0.2
    spread: float = _START_SPREAD
    nugget: float = 0.2


@dataclass(frozen=True)
class _Basis:
    """The process through the inducing candidates at one length, in units of the spread.

    Attributes:
        factor: `(m, m)` lower Cholesky factor of the correlations of the inducing candidates.
        waves: `(m, n)`; `waves.T @ waves` are the correlations of n candidates as far as the inducing ones carry them.
        rest: `(n,)` the part of each candidate's variance that they do not carry.
    """

    factor: Array
    waves: Array
    rest: Array


class Landscape:
    """The abilities of candidates, given noisy observations of them.

    Args:
        points: `(n, n_dims)` the candidates' points in the unit cube, in the order of the run.
        level: prior deviation of the mean ability m.
        unit: of abilities; the grids of spread and nugget are in units of it.
    """

    def __init__(self, points: Array, level: float, unit: float) -> None:
        self._points = points
        self._level, self._unit = level, unit
        self._inducing = points[spread_out(len(points), INDUCING)]
        self._trial = spread_out(len(points), TRIAL)
        self._trial_bases: dict[float, _Basis] = {}
        self._kernel = _Kernel()
        self._basis_of_all: _Basis | None = None

    @property
    def wide(self) -> float:
        """The prior variance of an ability around the mean m."""
        return (self._kernel.spread**2 + self._kernel.nugget**2) * self._unit**2

    def choose(self, z: Array, noise: Array) -> None:
        """Choose length, spread and nugget by the marginal likelihood on a grid, later only next to the last choice.

        Args:
            z: `(n,)` observed abilities.
            noise: `(n,)` variances of the observations.
        """
        rows = self._trial
        if len(rows) < _LEAST:
            return
        z, noise = z[rows], noise[rows]
        first = not self._trial_bases
        now, best = self._kernel, -math.inf
        for length in _LENGTHS if first else _beside(_LENGTHS, now.length):
            if length not in self._trial_bases:
                self._trial_bases[length] = self._basis(length, self._points[rows])
            for spread in _SPREADS if first else _beside(_SPREADS, now.spread):
                for nugget in _NUGGETS if first else _beside(_NUGGETS, now.nugget):
                    kernel = _Kernel(length, spread, nugget)
                    fit = self._log_likelihood(kernel, self._trial_bases[length], z, noise)
                    # A weak preference for the middle of the grid decides where the data does not.
                    fit -= 0.5 * math.log(spread) ** 2
                    if fit > best:
                        best, self._kernel = fit, kernel
        if self._kernel.length != now.length:
            self._basis_of_all = None

    def smooth(self, z: Array, noise: Array) -> Array:
        """Return the `(n,)` posterior means of the candidates' abilities, given observations as for `choose`."""
        if not len(z):
            return z
        basis = self._whole_basis()
        own = self._own(basis.rest)
        waves, inner, right = self._normal_equations(basis, z, own + noise)
        carried = np.linalg.solve(inner, right) @ waves
        return np.asarray(carried + own / (own + noise) * (z - carried))

    def learn(self, z: Array, noise: Array) -> None:
        """Remember observations, from which `prior` predicts."""
        basis = self._whole_basis()
        _, inner, right = self._normal_equations(basis, z, self._own(basis.rest) + noise)
        # A point with correlations k to the inducing candidates has the waves A (1, k), A = diag(level, s factor^-1).
        m = len(basis.factor)
        self._to_waves = np.zeros((m + 1, m + 1))
        self._to_waves[0, 0] = self._level
        self._to_waves[1:, 1:] = self._kernel.spread * self._unit * np.linalg.inv(basis.factor)
        self._slope = np.linalg.solve(inner, right) @ self._to_waves
        self._to_error = np.linalg.solve(np.linalg.cholesky(inner), self._to_waves)

    def prior(self, point: Array) -> tuple[float, float]:
        """Return mean and variance of the ability at a `(n_dims,)` point, by what `learn` was told."""
        k = np.ones(len(self._inducing) + 1)
        k[1:] = _correlations(self._inducing, point[None], self._kernel.length)[:, 0]
        waves = self._to_waves[1:, 1:] @ k[1:]
        unknown = float(((self._to_error @ k) ** 2).sum())
        rest = max((self._kernel.spread * self._unit) ** 2 - float(waves @ waves), 0.0)
        return float(self._slope @ k), max(unknown + rest + (self._kernel.nugget * self._unit) ** 2, 1e-9)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _whole_basis(self) -> _Basis:
        if self._basis_of_all is None:
            self._basis_of_all = self._basis(self._kernel.length, self._points)
        return self._basis_of_all

    def _basis(self, length: float, points: Array) -> _Basis:
        among = _correlations(self._inducing, self._inducing, length)
        among.flat[:: len(among) + 1] += _JITTER
        factor = np.linalg.cholesky(among)
        waves: Array = np.asarray(np.linalg.solve(factor, _correlations(self._inducing, points, length)))
        return _Basis(np.asarray(factor), waves, np.maximum(1.0 - (waves**2).sum(axis=0), 0.0))

    def _own(self, rest: Array) -> Array:
        """Return the variance of each candidate's ability that it shares with no other."""
        return (self._kernel.spread * self._unit) ** 2 * rest + (self._kernel.nugget * self._unit) ** 2

    def _normal_equations(self, basis: _Basis, z: Array, variance: Array) -> tuple[Array, Array, Array]:
        """Return the waves Phi `(m + 1, n)`, the level's in front; 1 + Phi V^-1 Phi'; Phi V^-1 z."""
        waves = np.empty((len(basis.waves) + 1, len(z)))
        waves[0] = self._level
        np.multiply(basis.waves, self._kernel.spread * self._unit, out=waves[1:])
        root = np.sqrt(variance)
        scaled = waves / root
        inner = scaled @ scaled.T
        inner.flat[:: len(inner) + 1] += 1.0
        return waves, inner, scaled @ (z / root)

    def _log_likelihood(self, kernel: _Kernel, basis: _Basis, z: Array, noise: Array) -> float:
        """Return the log density of observations but for a constant, by the lemmas of Woodbury and Sylvester."""
        spread, nugget = kernel.spread * self._unit, kernel.nugget * self._unit
        root = np.sqrt(spread**2 * basis.rest + nugget**2 + noise)
        m = len(basis.waves)
        scaled = np.empty((m + 2, len(z)))
        np.divide(basis.waves * spread, root, out=scaled[:m])
        scaled[m], scaled[m + 1] = self._level / root, z / root
        inner = scaled @ scaled.T
        inner.flat[:: m + 3] += 1.0
        # The factor's last row is that of the right side, so one factorization serves determinant and solution.
        factor = np.linalg.cholesky(inner)
        square = inner[m + 1, m + 1] - 1.0 - factor[m + 1, :-1] @ factor[m + 1, :-1]
        return float(-0.5 * square - np.log(root).sum() - np.log(np.diag(factor)[:-1]).sum())


def spread_out(n: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of the numbers below n: the latest ones, and as many evenly spread over all before.

    A search asks next for what is near its latest candidates; the others show how abilities change in the large.
    """
    if n <= most:
        return np.arange(n)
    early = most // 2
    before = n - (most - early)
    return np.concatenate([np.arange(early) * before // early, np.arange(before, n)])


def _beside(grid: tuple[float, ...], value: float) -> tuple[float, ...]:
    place = grid.index(value)
    return grid[max(place - 1, 0) : place + 2]


def _correlations(x: Array, y: Array, length: float) -> Array:
    """Return `(len(x), len(y))` correlations exp(-|x - y|^2 / (2 l^2)), l in units of the root of the dimensions."""
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2.0 * x @ y.T
    return np.asarray(np.exp(np.maximum(squared, 0.0) / (-2.0 * length**2 * x.shape[1])))
