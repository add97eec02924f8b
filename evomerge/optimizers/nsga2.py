"""NSGA-II: several objectives kept apart, within limits.

Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE Transactions on
Evolutionary Computation 6:182 (2002). Parents and offspring of a generation compete together, front by front; where a
front does not fit, its least crowded members stay. Parents are drawn by binary tournament (rank, then crowding); their
children are made by simulated binary crossover and polynomial mutation within bounds. Limits take part by constraint
domination.

What differs from the paper, since evaluations here take minutes and workers must not wait:

- **A generation closes when as many points were told as the population has.** More may be outstanding: a point that is
  told later counts in the generation that is open then, and further children come from the present parents.
- **The first generation** is the start, which the user stated, and points drawn uniformly.
- **Each ask makes one child**, of the two that the crossover gives.
- **Every child has a coordinate mutated**, since a recipe that is proposed again teaches nothing.
- **Coordinates that sleep** (parameters of a method that a parent did not choose, say) were never tried: a child takes
  the other parent's where it was awake, and the coordinate that is mutated for sure is one that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evomerge.optimizers.base import Awake, Optimizer, Point, lent
from evomerge.optimizers.ledger import Ledger, checked_start, own_generator, shown
from evomerge.optimizers.pareto import crowding, ranks
from evomerge.optimizers.state import damaged, flatten, pack, restore, unpack
from evomerge.record import Result

ETA_CROSSOVER, ETA_MUTATION = 20.0, 20.0
"""The distribution indices of the two operators: the larger, the nearer to the parents (section V A of the paper)."""

CROSSOVER = 0.9
"""Probability that two parents are crossed at all; the mutation rate is one over the number of dimensions."""


@dataclass(frozen=True)
class _Individual:
    number: int
    x: NDArray[np.float64]
    result: Result | None  # without measures: selection does not look at them

    def to_data(self) -> tuple[Any, ...]:
        objectives = [] if self.result is None else list(self.result.objectives)
        violation = -1.0 if self.result is None else self.result.violation
        return self.number, self.x, objectives, violation

    @classmethod
    def from_data(cls, number: int, x: NDArray[np.float64], objectives: list[float], violation: float) -> _Individual:
        return cls(int(number), x, None if violation < 0.0 else Result(tuple(objectives), violation))


class NSGA2(Optimizer):
    """NSGA-II in the unit cube, for several objectives; larger is better in each.

    See the module's docstring.

    Args:
        n_dims: number of dimensions, from 1.
        start: `(n_dims,)`, the first point.
        seed: from 0; of this object's own generator.
        population: how many points are kept, and how many are told between two selections; from 4. 16 suits some
            hundred evaluations, the paper's 100 some ten thousand.
        awake: which coordinates of a point count; None: all of them.
    """

    OPTIONS = ("population",)
    uses_awake = True
    many_objectives = True

    @classmethod
    def problems(cls, options: Mapping[str, Any], n_dims: int) -> list[str]:
        """Return what is wrong with the options, one sentence each."""
        del n_dims
        population = options.get("population", 16)
        whole = isinstance(population, int) and not isinstance(population, bool)
        if not whole or population < 4:
            return [f"`population` of nsga2 must be a whole number from 4, not {population!r}"]
        return []

    def __init__(
        self, n_dims: int, start: ArrayLike, seed: int, *, population: int = 16, awake: Awake | None = None
    ) -> None:
        self.n_dims = n_dims
        self._awake = awake
        self._start = checked_start(start, n_dims)
        self._population = population
        self._header = {
            "optimizer": "nsga2",
            "n_dims": n_dims,
            "seed": seed,
            "start": self._start.tolist(),
            "population": population,
        }
        self._generator = own_generator(seed, "nsga2")
        self._ledger = Ledger()
        self._parents: list[_Individual] = []  # best first: by rank, then crowding
        self._told: list[_Individual] = []  # of the open generation

    @property
    def population(self) -> int:
        """How many points are told between two selections."""
        return self._population

    @property
    def sure_asks(self) -> int:
        """How many further points are children of the present parents, whatever is told in the meantime."""
        return max(0, self._population - len(self._told) - len(self._ledger.outstanding))

    def ask(self) -> Point:
        """Return the next point to score."""
        if self._ledger.n_asked == 0:
            return self._ledger.open(self._start)
        if not self._parents:
            return self._ledger.open(self._generator.random_sample(self.n_dims))
        one, other = self._tournament(), self._tournament()
        child = self._mutated(self._crossed(*lent(self._awake, one.x, other.x)))
        return self._ledger.open(child, (one.number, other.number))

    def tell(self, number: int, result: Result | None) -> None:
        """Take the result of point `number`; None, or one that is not finite: it failed and ranks last.

        Raises:
            RuntimeError: if that number was never asked or is told twice.
        """
        x = self._ledger.close(number)
        usable = result is not None and bool(np.isfinite(result.objectives).all())
        kept = Result(result.objectives, result.violation) if usable and result is not None else None
        self._told.append(_Individual(number, x, kept))
        if len(self._told) >= self._population:
            # Sorted by number, since outcomes of several workers arrive in any order.
            self._parents = self._selected(sorted([*self._parents, *self._told], key=lambda one: one.number))
            self._told = []

    def _selected(self, everyone: list[_Individual]) -> list[_Individual]:
        """Return the best of parents and offspring, best first; failed ones are never parents."""
        alive = [one for one in everyone if one.result is not None]
        front = ranks([one.result for one in alive])
        chosen: list[_Individual] = []
        for level in range(int(front.max(initial=-1)) + 1):
            members = np.flatnonzero(front == level)
            values = np.array([alive[place].result.objectives for place in members])  # type: ignore[union-attr]
            order = np.argsort(-crowding(values), kind="stable")
            chosen += [alive[place] for place in members[order]]
        return chosen[: self._population]

    def _tournament(self) -> _Individual:
        """Return the better of two parents that are drawn."""
        places = self._generator.randint(len(self._parents), size=2)
        return self._parents[int(places.min())]

    def _crossed(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a child of simulated binary crossover (Deb and Agrawal 1995) that stays in the cube."""
        draw = self._generator
        crossed, u = draw.random_sample() < CROSSOVER, draw.random_sample(self.n_dims)
        takes_part, first = draw.random_sample(self.n_dims) < 0.5, draw.random_sample(self.n_dims) < 0.5
        if not crossed:
            return a.copy()
        low, high = np.minimum(a, b), np.maximum(a, b)
        apart = high - low > 1e-14
        width = np.where(apart, high - low, 1.0)
        # Each child's spread is cut off at the border that it lies nearer to.
        lower = low + high - _spread(1.0 + 2.0 * low / width, u) * width
        upper = low + high + _spread(1.0 + 2.0 * (1.0 - high) / width, u) * width
        child = np.clip(0.5 * np.where(first, lower, upper), 0.0, 1.0)
        return np.where(apart & takes_part, child, np.where(first, a, b))

    def _mutated(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a point after polynomial mutation within bounds; at least one coordinate that counts moves."""
        draw = self._generator
        counts = np.arange(self.n_dims) if self._awake is None else np.flatnonzero(self._awake(x))
        # On average one coordinate that counts moves; those that sleep drift along.
        chosen, u = draw.random_sample(self.n_dims) < 1.0 / len(counts), draw.random_sample(self.n_dims)
        chosen[counts[draw.randint(len(counts))]] |= not chosen[counts].any()
        return np.where(chosen, np.clip(x + _step(x, u), 0.0, 1.0), x)

    def diagnostics(self) -> Mapping[str, Any]:
        """Return how many selections there were, and how far apart the parents of the next children are.

        Returns:
            `generation`, from 0; `population`; `spread`: the standard deviation of the parents, mean over the
            coordinates, once there are parents.
        """
        found = {"generation": self._ledger.n_told // self._population, "population": self._population}
        if not self._parents:
            return found
        return {**found, "spread": shown(np.std([one.x for one in self._parents], axis=0).mean())}

    def dump_state(self) -> bytes:
        """Return everything that the next `ask` depends on."""
        generator: Any = self._generator.get_state(legacy=True)
        data = {
            "generator": tuple(generator),
            "ledger": self._ledger.to_data(),
            "parents": [one.to_data() for one in self._parents],
            "told": [one.to_data() for one in self._told],
        }
        return pack(self._header, flatten(data))

    def load_state(self, state: bytes) -> None:
        """Continue from `dump_state`.

        Raises:
            ValueError: if the state is not one of this optimizer and these arguments.
        """
        payload = unpack(state, self._header)
        with damaged():
            data = restore(payload)
            ledger = Ledger.from_data(data["ledger"])
            parents, told = ([_Individual.from_data(*one) for one in data[key]] for key in ("parents", "told"))
            if any(one.x.shape != (self.n_dims,) for one in (*parents, *told)):
                raise ValueError("its parts do not belong together")
            generator = np.random.RandomState()  # a fresh one: a damaged state must leave this object as it is
            generator.set_state(data["generator"])
        self._generator, self._ledger, self._parents, self._told = generator, ledger, parents, told


def _spread(room: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return β_q of the crossover for uniform draws u, where β may be at most `room` (from 1)."""
    power = 1.0 / (ETA_CROSSOVER + 1.0)
    alpha = 2.0 - room ** -(ETA_CROSSOVER + 1.0)
    inside = u <= 1.0 / alpha
    # Both branches are computed for all; where the other one holds, its base may be anything, so it is kept above 0.
    return np.where(inside, (u * alpha) ** power, (1.0 / np.maximum(2.0 - u * alpha, 1e-300)) ** power)


def _step(x: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return δ_q of the polynomial mutation at x for uniform draws u (Deb and Goyal 1996, with bounds 0 and 1)."""
    power = 1.0 / (ETA_MUTATION + 1.0)
    below = 2.0 * u + (1.0 - 2.0 * u) * (1.0 - x) ** (ETA_MUTATION + 1.0)
    above = 2.0 * (1.0 - u) + 2.0 * (u - 0.5) * x ** (ETA_MUTATION + 1.0)
    return np.where(u < 0.5, np.maximum(below, 0.0) ** power - 1.0, 1.0 - np.maximum(above, 0.0) ** power)
