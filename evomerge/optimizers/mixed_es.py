"""A mixed-integer evolution strategy: floats, integers and choices, each moved in its own way.

After Li, Emmerich, Eggermont, Baeck, Schuetz, Dijkstra and Reiber, "Mixed Integer Evolution Strategies for Parameter
Optimization", Evolutionary Computation 21(1), 2013. Each individual carries three strategy parameters that are mutated
first and then used, so that those which give good children survive with them (self-adaptation):

- **floats**: a normal step of size sigma, sigma' = sigma exp(tau N(0, 1)), tau = 1 / sqrt(n of that kind);
- **integers**: the difference of two geometric variables, the distribution of maximal entropy for its mean step
  (Rudolph, PPSN 1994); its mean is adapted like sigma;
- **choices**: with probability p, another one at random; p is adapted by the logistic rule.

A child takes each gene from one of two parents (dominant recombination) and the mean of their strategy parameters.
What a search of model merges needs beyond the paper:

- **Steady state.** The paper's (mu, lambda) strategy waits for whole generations. Here each answer enters the
  population at once, however late, and replaces the worst member, so any number of asks may be outstanding. An
  individual also leaves after `LIFESPAN` answers per member, so that a lucky one with too small a step size does not
  stay for ever (the kappa of Schwefel and Rudolph's (mu, kappa, lambda)); only the best one stays.
- **Ties** are won by the newer individual: where scores are shares of a few items and many genes have no effect, a
  search would otherwise stand still.
- **Coordinates that sleep** (parameters of a method that an individual did not choose, say) were never tried: a child
  takes the other parent's where it was awake.
- **Points are not asked twice** where all genes are discrete: the child is mutated again.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evomerge.optimizers.base import Awake, Optimizer, Point, lent
from evomerge.optimizers.ledger import Ledger, checked_start, own_generator, shown, usable
from evomerge.optimizers.state import damaged, flatten, pack, restore, unpack
from evomerge.record import Result

LIFESPAN = 20
"""Answers per member of the population after which an individual leaves, unless it is the best."""

MIN_STEP = 1e-4
"""Smallest sigma (share of a gene's range): no model answers differently for less."""

TRIES = 20
"""How often a child that was asked before is mutated again; after that it is asked again, which costs nothing."""

REMEMBERED = 4096
"""How many of the latest points are not asked again; each takes eight bytes in every state."""


@dataclass(frozen=True)
class _Individual:
    """A point with its strategy parameters: sigma, mean step of integers (a share of the range), p of choices."""

    number: int
    x: NDArray[np.float64]
    steps: NDArray[np.float64]
    fitness: float
    born: int  # number of its answer, from 1

    def to_data(self) -> tuple[Any, ...]:
        return self.number, self.x, self.steps, self.fitness, self.born


class MixedES(Optimizer):
    """A mixed-integer evolution strategy in the unit cube; larger fitness is better.

    See the module's docstring. The first proposal is the start. Integers and choices are proposed at the centres of
    their bins.

    Args:
        n_dims: number of dimensions, from 1.
        start: `(n_dims,)`, in the unit cube.
        seed: from 0; of this object's own generator.
        kinds: per dimension 0 for a float, n for an integer with n ordered values, -n for a choice of n; the values are
            equal bins of the unit interval. None: all are floats.
        sigma: first step size of floats and integers, as a share of the range, from 0.0001 to 1. The default is half of
            CMA-ES's: it grows within a few answers where that pays, while large steps of many integers at once seldom
            succeed.
        population: how many of the best individuals are kept, from 1. With a few hundred answers, a large population
            costs more than it saves.
        awake: which coordinates of a point count; None: all of them.

    Raises:
        ValueError: if the start or the kinds have another shape, or the start leaves the unit cube.
    """

    OPTIONS = ("sigma", "population")
    uses_kinds = True
    uses_awake = True

    @classmethod
    def problems(cls, options: Mapping[str, Any], n_dims: int) -> list[str]:
        """Return what is wrong with the options, one sentence each."""
        del n_dims
        found = []
        sigma, population = options.get("sigma", 0.1), options.get("population", 4)
        number = isinstance(sigma, (int, float)) and not isinstance(sigma, bool)
        if not number or not MIN_STEP <= sigma <= 1.0:
            found.append(
                f"`sigma` of mixed must be a number from {MIN_STEP:g} to 1 (a share of each gene's range), "
                f"not {sigma!r}"
            )
        whole = isinstance(population, int) and not isinstance(population, bool)
        if not whole or population < 1:
            found.append(f"`population` of mixed must be a whole number from 1, not {population!r}")
        return found

    def __init__(
        self,
        n_dims: int,
        start: ArrayLike,
        seed: int,
        *,
        kinds: Sequence[int] | None = None,
        sigma: float = 0.1,
        population: int = 4,
        awake: Awake | None = None,
    ) -> None:
        self.n_dims = n_dims
        self._awake = awake
        begin = checked_start(start, n_dims)
        known = np.zeros(n_dims, dtype=np.int64) if kinds is None else np.array(kinds, dtype=np.int64)
        if known.shape != (n_dims,):
            raise ValueError(f"kinds must have the shape ({n_dims},), one per dimension, but has {known.shape}")
        self._floats, self._integers, self._choices = (
            np.flatnonzero(sign) for sign in (known == 0, known > 0, known < 0)
        )
        self._n_values = np.abs(known)
        self._population = population
        self._start = self._at_centres(begin)
        self._first_steps = np.array([sigma, sigma, 1.0 / max(2, len(self._choices))])
        self._header = {
            "optimizer": "mixed",
            "n_dims": n_dims,
            "seed": seed,
            "start": begin.tolist(),
            "kinds": known.tolist(),
            "sigma": sigma,
            "population": self._population,
        }
        self._generator = own_generator(seed, "mixed")
        self._ledger = Ledger()
        self._asked: dict[int, NDArray[np.float64]] = {}  # strategy parameters of outstanding points
        self._members: list[_Individual] = []  # best first
        self._n_told = 0
        self._seen: deque[int] = deque(maxlen=REMEMBERED)

    def ask(self) -> Point:
        """Return the next point to score."""
        parents: tuple[int, ...] = ()
        x, steps = self._start, self._first_steps
        if self._ledger.n_asked > 0:
            for _ in range(TRIES):
                x, steps, parents = self._recombined()
                x, steps = self._mutated(x, steps)
                if len(self._floats) or _key(x) not in self._seen:
                    break
        if not len(self._floats):
            self._seen.append(_key(x))
        proposal = self._ledger.open(x, parents)
        self._asked[proposal.number] = steps
        return proposal

    def tell(self, number: int, result: Result | None) -> None:
        """Take the fitness of proposal `number`; larger is better, None or not finite: it failed and does not survive.

        Raises:
            RuntimeError: if that number was never asked or is told twice.
        """
        x = self._ledger.close(number)
        steps, score = self._asked.pop(number), usable(result)
        self._n_told += 1
        if score is None:
            return
        self._members.append(_Individual(number, x, steps, score, self._n_told))
        self._members.sort(key=lambda one: (-one.fitness, -one.number))
        oldest = self._n_told - LIFESPAN * self._population
        best, *others = self._members
        self._members = [best, *(one for one in others if one.born > oldest)][: self._population]

    def _recombined(self) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, ...]]:
        """Return genes and strategy parameters from two members, with their numbers.

        While there are no members, those of the start are returned.
        """
        if not self._members:
            return self._start, self._first_steps, ()
        one, other = (self._members[i] for i in self._generator.randint(len(self._members), size=2))
        from_one = self._generator.random_sample(self.n_dims) < 0.5
        x = np.where(from_one, *lent(self._awake, one.x, other.x))
        return x, (one.steps + other.steps) / 2.0, (one.number, other.number)

    def _mutated(
        self, x: NDArray[np.float64], steps: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x, (sigma, step, p) = x.copy(), steps
        draw = self._generator
        if n := len(self._floats):
            sigma = min(max(sigma * math.exp(draw.randn() / math.sqrt(n)), MIN_STEP), 1.0)
            x[self._floats] = 1.0 - np.abs(1.0 - np.mod(x[self._floats] + sigma * draw.randn(n), 2.0))
        if n := len(self._integers):
            values = self._n_values[self._integers]
            step = min(max(step * math.exp(draw.randn() / math.sqrt(n)), MIN_STEP), 1.0)
            # With a mean step of less than one in all together, most children would be copies (Li et al., section 3).
            mean = np.maximum(step * values, 1.0 / n)
            geometric = 1.0 - mean / (1.0 + np.sqrt(1.0 + mean**2))
            moved = self._index(x, self._integers) + draw.geometric(geometric) - draw.geometric(geometric)
            x[self._integers] = (_reflected(moved, values) + 0.5) / values
        if n := len(self._choices):
            values = self._n_values[self._choices]
            p = 1.0 / (1.0 + (1.0 - p) / p * math.exp(-draw.randn() / math.sqrt(n)))
            p = min(max(p, 1.0 / (3.0 * n)), 0.5)
            other = np.floor(draw.random_sample(n) * np.maximum(values - 1, 1)).astype(np.int64) + 1
            index = self._index(x, self._choices)
            moved = np.where(draw.random_sample(n) < p, (index + other) % values, index)
            x[self._choices] = (moved + 0.5) / values
        return x, np.array([sigma, step, p])

    def _index(self, x: NDArray[np.float64], where: NDArray[np.intp]) -> NDArray[np.int64]:
        values = self._n_values[where]
        return np.minimum(np.floor(x[where] * values).astype(np.int64), values - 1)

    def _at_centres(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the point with integers and choices at the centres of their bins."""
        x = x.copy()
        for where in (self._integers, self._choices):
            x[where] = (self._index(x, where) + 0.5) / self._n_values[where]
        return x

    def diagnostics(self) -> Mapping[str, Any]:
        """Return the strategy parameters that the population has come to, in the mean over its members.

        Returns:
            `generation`: tells per member, from 0, since nothing waits for whole generations; `population`; and of the
            kinds that there are `step_size` (of floats), `integer_step` (mean step, a share of the range) and
            `choice_rate` (the probability of another choice).
        """
        found = {"generation": self._n_told // self._population, "population": self._population}
        steps = np.mean([one.steps for one in self._members], axis=0) if self._members else self._first_steps
        kinds = (("step_size", self._floats), ("integer_step", self._integers), ("choice_rate", self._choices))
        return found | {name: shown(step) for (name, where), step in zip(kinds, steps, strict=True) if len(where)}

    def dump_state(self) -> bytes:
        """Return everything that the next `ask` depends on."""
        generator: Any = self._generator.get_state(legacy=True)
        data = {
            "generator": tuple(generator),
            "ledger": self._ledger.to_data(),
            "asked": self._asked,
            "members": [one.to_data() for one in self._members],
            "n_told": self._n_told,
            "seen": np.array(self._seen, dtype=np.uint64),
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
            asked = {int(number): np.array(steps).reshape(3) for number, steps in data["asked"].items()}
            members = [_Individual(*one) for one in data["members"]]
            if asked.keys() != ledger.outstanding.keys() or any(one.x.shape != (self.n_dims,) for one in members):
                raise ValueError("its parts do not belong together")
            n_told, seen = int(data["n_told"]), deque(data["seen"].tolist(), maxlen=REMEMBERED)
            generator = np.random.RandomState()  # a fresh one: a damaged state must leave this object as it is
            generator.set_state(data["generator"])
        self._generator, self._ledger, self._asked = generator, ledger, asked
        self._members, self._n_told, self._seen = members, n_told, seen


def _reflected(index: NDArray[np.int64], n_values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return indices mirrored at the ends of 0 to n - 1."""
    top = n_values - 1
    folded = np.mod(index, np.maximum(2 * top, 1))
    return np.minimum(folded, 2 * top - folded)


def _key(x: NDArray[np.float64]) -> int:
    return int.from_bytes(hashlib.blake2b(x.tobytes(), digest_size=8).digest(), "little")
