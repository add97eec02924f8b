"""CMA-ES, full or separable, by pycma.

Hansen, "The CMA Evolution Strategy: A Tutorial" (arXiv 1604.00772), with active covariance adaptation; separable: Ros
and Hansen, PPSN 2008. As long as no more than a population is outstanding and generations are told whole, the points
are those of pycma's own ask/tell, bit for bit. What a search needs beyond it:

- **A generation closes when as many proposals were told as the population has.** More may be outstanding: once the
  generation is handed out, further points are drawn from the same distribution. A told point counts towards the
  generation that is open then, so no evaluation is lost. Points from an earlier distribution count as injected ones
  (Hansen, arXiv 1110.4181: their step is shortened to a length that is likely in the present distribution).
- **Failed candidates** rank below all others of the generation. If a whole generation failed, nothing was learned about
  the landscape: the generation is dropped, and the same distribution is drawn from again.
- **A search is bounded by its budget.** When pycma finds that it has converged or stagnated, the search restarts with
  twice the population (IPOP: Auger and Hansen, CEC 2005) and the first step size. IPOP restarts at a random point; this
  restarts around the best point so far, since budgets of model merging are too small for a fresh start.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evomerge.optimizers.base import Optimizer, Point
from evomerge.optimizers.ledger import Ledger, checked_start, own_generator, shown, usable
from evomerge.optimizers.state import damaged, flatten, pack, restore, unpack
from evomerge.record import Result

SEPARABLE_ABOVE = 200
"""The number of dimensions above which `separable="auto"` is on: beyond it the full matrix costs 30 ms for each
generation, and each state takes a megabyte."""

MOST_POPULATION = 100_000
"""The largest population: a generation is drawn at once."""

FLAT_GENERATIONS = 10
"""After more generations in a row in which three quarters tie for the best, the search has stagnated. pycma's own
limit, 1, would restart too soon where scores are shares of a hundred items."""

MOST_AXES = 256
"""How many principal axes are told at most."""

MIN_STEP = 1e-6
"""A step size (share of a gene's range) below which the search has converged: no model answers differently for less."""

# Attributes of pycma's object outside of the state: fixed by the arguments, kept by us, or only for log files.
_NOT_STATE = frozenset(
    {
        *("opts", "inopts", "inputargs", "sp", "sp0", "gp", "boundary_handler", "integer_centering", "const"),
        *("sent_solutions", "archive", "_round_integer_variables", "_injected_solutions_archive"),
        *("logger", "timer", "more_to_write", "callbackstop", "_stopdict", "_tell2_args", "pop", "pop_sorted", "last"),
    }
)

# The steps drawn last, which pycma keeps but never reads: a third of a state with thousands of dimensions. Older states
# contain them, so they may be read.
_NEVER_READ = "ary"


@dataclass
class _Point:
    """A proposal as pycma knows it: `geno` is the point before it was mapped into the bounds."""

    number: int
    x: NDArray[np.float64]
    geno: NDArray[np.float64]
    generation: int

    def to_data(self) -> tuple[Any, ...]:
        return self.number, self.x, self.geno, self.generation


class CMA(Optimizer):
    """CMA-ES in the unit cube, with restarts; larger fitness is better.

    The module's docstring says what it does beyond pycma.

    Args:
        n_dims: number of dimensions, from 1.
        start: `(n_dims,)`, mean of the first generation.
        seed: from 0; of this object's own generator.
        sigma: first step size, as a share of the cube's side, above 0 and up to 1. With 0.2, two thirds of the first
            steps stay within a fifth of the range, so the start matters and the borders can still be reached.
        population: how many points a generation has, from 4 to 100,000; None: 4 + floor(3 ln n_dims), or 6 for one
            dimension.
        separable: whether the covariance is diagonal: its cost is linear in `n_dims`, but it misses how genes interact.
            "auto": above `SEPARABLE_ABOVE` dimensions.
    """

    OPTIONS = ("sigma", "population", "separable")

    @classmethod
    def problems(cls, options: Mapping[str, Any], n_dims: int) -> list[str]:
        """Return the mistakes in the options, one sentence each."""
        del n_dims
        found = []
        sigma, population = options.get("sigma", 0.2), options.get("population")
        separable = options.get("separable", "auto")
        number = isinstance(sigma, (int, float)) and not isinstance(sigma, bool)
        if not number or not 0.0 < sigma <= 1.0:
            found.append(
                f"`sigma` of cma must be a number above 0 and at most 1 (a share of each gene's range), not {sigma!r}"
            )
        whole = isinstance(population, int) and not isinstance(population, bool)
        if population is not None and (not whole or not 4 <= population <= MOST_POPULATION):
            found.append(
                f"`population` of cma must be a whole number from 4 to {MOST_POPULATION}, or null for 4 + 3 ln(n), not "
                f"{population!r}"
            )
        if separable not in ("auto", True, False):
            found.append(f"`separable` of cma must be auto, true or false, not {separable!r}")
        return found

    def __init__(
        self,
        n_dims: int,
        start: ArrayLike,
        seed: int,
        *,
        sigma: float = 0.2,
        population: int | None = None,
        separable: str | bool = "auto",
    ) -> None:
        self.n_dims = n_dims
        self._sigma = sigma
        self._separable = n_dims > SEPARABLE_ABOVE if separable == "auto" else bool(separable)
        begin = checked_start(start, n_dims)
        # In one dimension, pycma 4.5 fails as soon as the step size meets its upper limit. A second dimension, which is
        # ignored, avoids that at the cost of a few evaluations.
        self._mean = np.append(begin, 0.5) if n_dims == 1 else begin
        self._population = 4 + math.floor(3 * math.log(len(self._mean))) if population is None else population
        self._header = {
            "optimizer": "cma",
            "library": f"cma {version('cma')}",
            "n_dims": n_dims,
            "seed": seed,
            "start": begin.tolist(),
            "sigma": sigma,
            "population": self._population,
            "separable": self._separable,
        }
        self._generator = own_generator(seed, "cma")
        # One object, since pycma holds it too, and states name it rather than contain it.
        self._randn = self._generator.randn
        self._ledger = Ledger()
        self._es = self._new_es(self._mean, self._population)
        self._generation = 0
        self._ready: deque[_Point] = deque()  # points that were drawn, but not asked for yet
        self._asked: dict[int, _Point] = {}
        self._told: list[tuple[_Point, float | None]] = []  # of the open generation
        self._drew = False  # whether the open generation was drawn
        self._best: tuple[float, NDArray[np.float64]] | None = None
        self._restarts = 0

    @property
    def population(self) -> int:
        """How many points the present generation has; doubles with each restart."""
        return self._population

    @property
    def sure_asks(self) -> int:
        """How many further points come from the present distribution, whatever is told in the meantime."""
        return max(0, self._population - len(self._asked) - len(self._told))

    @property
    def restarts(self) -> int:
        """How often the search restarted because it had converged or stagnated."""
        return self._restarts

    def diagnostics(self) -> Mapping[str, Any]:
        """Return how the distribution stands from which the next points are drawn.

        Returns:
            `step_size`: sigma. `axes`: the standard deviations along the principal axes, the longest first, as points
            are drawn by them (pycma decomposes the covariance in some generations only); with more than `MOST_AXES`, as
            many of them at equal distances in this order. `generation`, from 0 over all restarts; `restarts`;
            `population`.
        """
        es = self._es
        if self._separable or self.n_dims == 1:  # the first of two, of which the other is pycma's alone
            lengths = np.asarray(es.stds)[: self.n_dims]
        else:
            lengths = float(es.sigma) * np.asarray(es.sm.D)
        axes = np.sort(lengths)[::-1]
        if len(axes) > MOST_AXES:
            axes = axes[np.linspace(0, len(axes) - 1, MOST_AXES).round().astype(int)]
        return {
            "step_size": shown(es.sigma),
            "axes": [shown(one) for one in axes],
            "generation": self._generation,
            "restarts": self._restarts,
            "population": self._population,
        }

    def ask(self) -> Point:
        """Return the next point to score."""
        if not self._ready:
            self._draw()
        point = self._ready.popleft()
        proposal = self._ledger.open(point.x[: self.n_dims])
        point.number = proposal.number
        self._asked[proposal.number] = point
        return proposal

    def tell(self, number: int, result: Result | None) -> None:
        """Take the fitness of proposal `number`; larger is better, None or not finite: it failed.

        Raises:
            RuntimeError: if that number was never asked or is told twice.
        """
        self._ledger.close(number)
        point, fitness = self._asked.pop(number), usable(result)
        if fitness is not None and (self._best is None or fitness > self._best[0]):
            self._best = (fitness, point.x)
        self._told.append((point, fitness))
        if len(self._told) >= self._population:
            self._close_generation()

    def _draw(self) -> None:
        """Draw a generation, or one more point if the generation was handed out already."""
        with _quiet():
            points = self._es.ask(1 if self._drew else None)
        self._drew = True
        for x in points:
            geno = np.array(self._es.sent_solutions[x]["geno"])
            self._ready.append(_Point(-1, np.clip(x, 0.0, 1.0), geno, self._generation))
        # pycma would look these up by a hash that differs between processes; `_close_generation` puts them back.
        self._es.sent_solutions.clear()

    def _close_generation(self) -> None:
        """Let pycma learn from the told points; further points come from the new distribution."""
        told = sorted(self._told, key=lambda pair: pair[0].number)  # the order in which pycma gave them out
        self._told = []
        scores = [fitness for _, fitness in told if fitness is not None]
        if not scores:
            return
        worst = -min(scores)
        failed = worst + max(1.0, abs(worst))
        es = self._es
        es.sent_solutions.clear()
        for point, _ in told:
            es.sent_solutions.insert(point.x, geno=point.geno, iteration=es.countiter)
        late = [i for i, (point, _) in enumerate(told) if point.generation != self._generation]
        with _quiet():
            if not self._drew:
                es.ask(1)  # all points are older than this distribution, but pycma requires an ask before each tell
            es.tell(
                [point.x for point, _ in told],
                [failed if fitness is None else -fitness for _, fitness in told],
                check_points=late or None,
            )
            converged = bool(es.stop())
        # Histories that only pycma's restarts and plots read would grow with the search, and each state with them.
        es.sent_solutions.clear()
        es.archive.clear()
        self._next_distribution()
        if converged:
            self._restart()

    def _next_distribution(self) -> None:
        self._generation += 1
        self._ready.clear()
        self._drew = False

    def _restart(self) -> None:
        assert self._best is not None, "a generation with at least one score was told"
        self._restarts += 1
        self._population *= 2
        self._mean = self._best[1].copy()
        self._es = self._new_es(self._mean, self._population)

    def _new_es(self, mean: NDArray[np.float64], population: int) -> Any:
        with _quiet():  # it warns at its import, too, where matplotlib is not installed
            import cma
            from cma.sigma_adaptation import CMAAdaptSigmaCSA
            from cma.utilities.utils import ElapsedWCTime

            es = cma.CMAEvolutionStrategy(
                mean,
                self._sigma,
                {
                    "bounds": [0.0, 1.0],
                    "popsize": population,
                    "CMA_diagonal": self._separable,
                    # From 300 dimensions on, pycma would switch to a step-size rule (TPA) that needs two particular
                    # points of each generation told together, and below 6 points to mirrored ones. Ours may come late.
                    "AdaptSigma": CMAAdaptSigmaCSA,
                    "CMA_mirrors": 0,
                    # By default pycma draws from numpy's global generator, which lm-eval reseeds at each call.
                    "randn": self._randn,
                    "seed": np.nan,
                    "verbose": -9,
                    "verb_log": 0,
                    "verb_disp": 0,
                    "signals_filename": "",
                    "maxiter": np.inf,
                    "tolfun": 0.0,  # ties among scores are no sign of convergence: see FLAT_GENERATIONS
                    "tolfunhist": 0.0,
                    "tolflatfitness": FLAT_GENERATIONS,
                    "tolx": MIN_STEP,
                },
            )
        es.timer = ElapsedWCTime()  # else the first ask makes it, which a resumed search has behind it
        return es

    def dump_state(self) -> bytes:
        """Return everything that the next `ask` depends on."""
        generator: Any = self._generator.get_state(legacy=True)
        frame = {"mean": self._mean, "population": self._population}
        data = {
            "generator": tuple(generator),
            "ledger": self._ledger.to_data(),
            "generation": self._generation,
            "ready": [point.to_data() for point in self._ready],
            "asked": [point.to_data() for point in self._asked.values()],
            "told": [(point.to_data(), fitness) for point, fitness in self._told],
            "drew": self._drew,
            "best": self._best,
            "restarts": self._restarts,
            "pycma": {name: _attributes(part) for name, part in _stateful(self._es).items()},
        }
        first = flatten(frame)
        return pack(
            self._header, len(first).to_bytes(8, "little") + first + flatten(data, _parts(self._es, self._randn))
        )

    def load_state(self, state: bytes) -> None:
        """Continue from `dump_state`.

        Raises:
            ValueError: if the state is not one of this optimizer, these arguments and this version of pycma.
        """
        payload = unpack(state, self._header)
        with damaged():
            length = 8 + int.from_bytes(payload[:8], "little")
            frame = restore(payload[8:length])
            mean, population = checked_start(frame["mean"], len(self._mean)), int(frame["population"])
            es = self._new_es(mean, population)
            data = restore(payload[length:], _parts(es, self._randn))
            for name, part in _stateful(es).items():
                _set_attributes(part, data["pycma"][name])
            ledger = Ledger.from_data(data["ledger"])
            ready = deque(_Point(*point) for point in data["ready"])
            asked = {point[0]: _Point(*point) for point in data["asked"]}
            told = [(_Point(*point), fitness) for point, fitness in data["told"]]
            generation, drew, restarts, best = (data[key] for key in ("generation", "drew", "restarts", "best"))
            # Set last, since pycma holds this generator, and a damaged state must leave this object as it is.
            self._generator.set_state(data["generator"])
        self._mean, self._population, self._es = mean, population, es
        self._ledger, self._ready, self._asked, self._told = ledger, ready, asked, told
        self._generation, self._drew, self._restarts, self._best = generation, drew, restarts, best


def _stateful(es: Any) -> dict[str, Any]:
    """Return the objects of pycma whose attributes change during a search, by name."""
    return {
        "es": es,
        "sm": es.sm,
        "adapt_sigma": es.adapt_sigma,
        "sigma_vec": es.sigma_vec,
        "fit": es.fit,
        "best": es.best,
        "stagnation": es._stoptolxstagnation,
    }


def _parts(es: Any, randn: Any) -> dict[str, object]:
    """Return all objects that a state names instead of containing them."""
    return {
        **_stateful(es),
        "opts": es.opts,
        "randn": randn,
        "eigh": getattr(es.sm, "eigenmethod", None) or np.linalg.eigh,
    }


def _attributes(part: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(part).items() if name not in _NOT_STATE and name != _NEVER_READ}


def _set_attributes(part: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        # A name that pycma's class has for a method cannot come from `_attributes`.
        if name in _NOT_STATE or name.startswith("__") or callable(getattr(type(part), name, None)):
            raise ValueError(f"unexpected attribute {name!r} of {type(part).__name__}")
        setattr(part, name, value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide pycma's warnings (injected points, flat fitness) from the user: what they warn of is done on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
